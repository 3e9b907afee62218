package qemu

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

// lastWords returns the end of what QEMU wrote to its log since the byte from,
// for an error's message: ": " and at most two lines, or "".
func lastWords(log string, from int64) string {
	f, err := os.OpenFile(log, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 1000
	from = max(from, sizeOf(f)-most)
	b, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := lines[max(0, len(lines)-2):]
	for i := range last {
		last[i] = host.Escape(last[i])
	}
	if said := strings.Join(last, "; "); said != "" {
		return ": " + said
	}
	return ""
}

// prepareLog makes a log that QEMU will open itself, as its own user.
func prepareLog(path string, o *banger.Owner) error {
	f, err := host.OpenLog(path, o)
	if err != nil {
		return err
	}
	return f.Close()
}

// sizeAt returns the size of a file, 0 if there is none.
func sizeAt(path string) int64 {
	st, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

func sizeOf(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
