package store

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"banger"
)

// failed gives an error of the database a code, a remedy and what was being
// done; a *banger.Error and the end of a context pass as they are.
func (s *Store) failed(what string, err error) error {
	var known *banger.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	if se.Code() == sqlite3.SQLITE_INTERRUPT { // how SQLite tells that ctx ended
		return errors.Join(context.Canceled, err)
	}
	return hint(banger.Errorf(codeOf(se), "database %s: %s: %w", s.path, what, err), s.path)
}

// codeOf tells the host's faults from banger's own. The low byte of an
// extended result code is the primary one.
func codeOf(e *sqlite.Error) banger.Code {
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return banger.Busy
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PERM:
		return banger.HostUnready
	}
	return banger.Internal
}

// hint adds what the user can do about a cause that is the host's.
func hint(e *banger.Error, path string) *banger.Error {
	primary := -1
	var se *sqlite.Error
	if errors.As(e, &se) {
		primary = se.Code() & 0xff
	}
	switch dir := filepath.Dir(path); {
	case primary == sqlite3.SQLITE_FULL, errors.Is(e, syscall.ENOSPC), errors.Is(e, syscall.EDQUOT):
		return e.WithRemedy("make room: df -h %s", dir)
	case primary == sqlite3.SQLITE_READONLY, errors.Is(e, syscall.EROFS):
		return e.WithRemedy("make %s writable, or set BANGER_STATE_DIR to another directory", dir)
	case primary == sqlite3.SQLITE_CORRUPT, primary == sqlite3.SQLITE_NOTADB:
		return e.WithRemedy("put a backup in its place, or begin anew: mv %s %s.broken (forgets all VMs)", path, path)
	case primary == sqlite3.SQLITE_BUSY:
		return e.WithRemedy("another program has it open: fuser -v %s", path)
	case primary == sqlite3.SQLITE_IOERR, primary == sqlite3.SQLITE_CANTOPEN:
		return e.WithRemedy("df -h %s; dmesg | tail", dir)
	}
	return e
}
