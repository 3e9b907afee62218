// Package store keeps what an installation was asked for, has leased and
// intends: SQLite rows. What exists is read from the system, never from here.
// A fault of the database or its file is a *banger.Error with a remedy; the end
// of a context and an error of the caller's own function pass as they are.
//
// One process opens a database at a time (the daemon's lock sees to it), and
// within it one connection: writers queue up in order instead of polling for
// the file's lock. A function given to a method runs inside a transaction and
// must not call the Store.
package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"banger"
)

// A Store is an open database. It may be used by several goroutines at once.
type Store struct {
	db   *sql.DB
	path string
}

// pragmas of each connection. FULL, because an intent that a power cut undoes
// would leave behind what nobody owns.
var pragmas = []string{
	"busy_timeout(10000)",
	"journal_mode(WAL)",
	"synchronous(FULL)",
	"foreign_keys(1)",
}

// Open opens the database at path, a file of mode 0600 that it makes if there
// is none, and brings its schema up to date. A database that a newer banger
// has written is refused with HostUnready.
func Open(ctx context.Context, path string) (*Store, error) {
	// made here and not by SQLite, for the mode: -wal and -shm take it over
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Close())
	}
	if err != nil {
		return nil, unopened(path, err)
	}
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, unopened(path, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db, path: path}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the database; transactions under way end first.
func (s *Store) Close() error { return s.db.Close() }

// Setting returns the stored value of key; if there is none, make's, which is
// stored. Both happen in one transaction: all callers get the same value.
func (s *Store) Setting(ctx context.Context, key string, make func() (string, error)) (value string, err error) {
	err = s.write(ctx, "setting "+key, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT value FROM setting WHERE key = ?`, key).Scan(&value)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if value, err = make(); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO setting (key, value) VALUES (?, ?)`, key, value)
		return err
	})
	return value, err
}

// write runs fn in an immediate transaction and commits it if fn succeeds.
func (s *Store) write(ctx context.Context, what string, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(what, err)
	}
	defer tx.Rollback() // does nothing after Commit
	if err := fn(tx); err != nil {
		return s.failed(what, err)
	}
	return s.failed(what, tx.Commit())
}

func unopened(path string, err error) error {
	e := banger.Errorf(banger.HostUnready, "open database %s: %w", path, err)
	if errors.Is(err, fs.ErrPermission) {
		return e.WithRemedy("ls -ld %s: it must belong to you", path)
	}
	return hint(e, path)
}
