package host

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A bounded writer takes all and keeps the first limit bytes. It has no
// ReadFrom: io.Copy would go through that, past the limit.
type bounded struct {
	kept  []byte
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-len(b.kept))
	b.kept = append(b.kept, p[:keep]...)
	b.over = b.over || keep < len(p)
	return len(p), nil
}

// A lines writer hands on each line, escaped, and keeps the last of them.
type lines struct {
	each func(string)
	part []byte
	tail []byte
}

const maxLine = 4 << 10

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.part = append(l.part, p[:min(len(p), maxLine-min(len(l.part), maxLine))]...)
			break
		}
		l.part = append(l.part, p[:min(i, maxLine-min(len(l.part), maxLine))]...)
		p = p[i+1:]
		l.flush()
	}
	return n, nil
}

func (l *lines) flush() {
	if len(l.part) == 0 {
		return
	}
	s := Escape(string(l.part))
	l.part = l.part[:0]
	if l.each != nil {
		l.each(s)
	}
	l.tail = append(append(l.tail, s...), '\n')
	if over := len(l.tail) - stderrTail; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
}

func (l *lines) String() string { return string(l.tail) }

// Escape makes a line of foreign text safe for terminals and logs: controls
// and what is not UTF-8 become visible escapes; a trailing CR goes.
func Escape(s string) string {
	s = strings.TrimRight(s, "\r\n")
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\t' || r >= ' ' && r < 0x7f || r > 0x9f && r != utf8.RuneError && r != 0x2028 && r != 0x2029 && (r < 0x202a || r > 0x202e) && (r < 0x2066 || r > 0x2069):
			b.WriteString(s[:n])
		default:
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		s = s[n:]
	}
	return b.String()
}
