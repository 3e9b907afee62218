package host

import "golang.org/x/sys/unix"

// ParseStat is parseStat in pieces.
func ParseStat(b []byte) (state byte, started uint64, err error) {
	st, err := parseStat(b)
	return st.state, st.started, err
}

// CopyPidfd makes the copy of a watch's descriptor that a child has between fork
// and exec.
func CopyPidfd(w Watch) (int, error) { return unix.FcntlInt(uintptr(w.w.fd), unix.F_DUPFD_CLOEXEC, 0) }

// Pidfd returns the number of a watch's descriptor.
func Pidfd(w Watch) int { return w.w.fd }
