package host

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LastWords returns the end of what a program wrote to its log since the byte
// from, escaped, for an error's message: ": " and at most two lines, or "". The
// file may be a guest's: no link is followed, no FIFO waited for.
func LastWords(log string, from int64) string {
	f, err := os.OpenFile(log, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 1000
	size := int64(0)
	if st, err := f.Stat(); err == nil {
		size = st.Size()
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(from, size-most), most))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := lines[max(0, len(lines)-2):]
	for i := range last {
		last[i] = Escape(last[i])
	}
	if said := strings.Join(last, "; "); said != "" {
		return ": " + said
	}
	return ""
}

// SizeOf returns the size of a log in bytes, 0 if there is none.
func SizeOf(log string) int64 {
	st, err := os.Lstat(log)
	if err != nil {
		return 0
	}
	return st.Size()
}

// String says how a process ended.
func (e End) String() string {
	switch {
	case !e.Known:
		return "ended; its status is not known"
	case e.Sig != 0:
		return "was ended by " + unix.SignalName(e.Sig)
	}
	return "exited with code " + strconv.Itoa(e.Code)
}
