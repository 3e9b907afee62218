package server

import (
	"log/slog"
	"log/syslog"
	"os"

	"golang.org/x/sys/unix"
)

const maxLog = 1 << 20 // bytes: then the file is renamed to FILE.1

// newLog writes to the journal (by its syslog socket), and to a file of root's
// where there is none.
func newLog(file string) *slog.Logger {
	if w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "banger-root"); err == nil {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(logFile(file), nil))
}

type logFile string

// Write writes one line, which the handler has quoted. What cannot be written is
// lost: a full disk must not keep a network from being taken down.
func (l logFile) Write(line []byte) (int, error) {
	if st, err := os.Lstat(string(l)); err == nil && st.Size() > maxLog {
		if err := os.Rename(string(l), string(l)+".1"); err != nil {
			return 0, err
		}
	}
	f, err := os.OpenFile(string(l), os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(line)
}
