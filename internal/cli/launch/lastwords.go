package launch

import (
	"io"
	"os"
	"strings"

	"banger"
	"banger/internal/cli/streams"
)

// maxWords bounds what is read of a log, and lastLines what is shown of it.
const (
	maxWords  = 64 << 10
	lastLines = 3
)

// spoke begins the line on which a daemon says why it ends; its remedy, if
// there is one, is the next line, indented.
const spoke = "bangerd: "

// lastWords is why a daemon ended, as its log says from offset on: its own
// words, else the last lines; nil when there are none.
func lastWords(path string, offset int64) *banger.Error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err != nil || end-offset > maxWords {
		offset = end - maxWords
	}
	b, err := io.ReadAll(io.NewSectionReader(f, offset, maxWords))
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = streams.Escape(strings.TrimRight(line, "\r\n")); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if why, ok := strings.CutPrefix(lines[i], spoke); ok {
			e := &banger.Error{Code: banger.Internal, Message: "the daemon does not start: " + why}
			if i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
				e.Remedy = strings.TrimSpace(lines[i+1])
			}
			return e
		}
	}
	return banger.Errorf(banger.Internal, "the daemon ended before it answered: %s",
		strings.Join(lines[max(0, len(lines)-lastLines):], "; "))
}

// codes are the classes of errors that a daemon's exit code tells.
var codes = map[int]banger.Code{
	2: banger.Invalid, 3: banger.NotFound, 4: banger.WrongState, 5: banger.HostUnready,
}
