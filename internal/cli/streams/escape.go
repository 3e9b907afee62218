package streams

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes foreign text harmless on a terminal: control characters (escape
// sequences begin with one), invisible format characters that turn or hide text
// and bytes that are no UTF-8 are written as \xNN or \u{N}. Tabs stay.
func Escape(s string) string { return escape(s, "\t") }

// EscapeLines is Escape, but newlines stay as well.
func EscapeLines(s string) string { return escape(s, "\t\n") }

func escape(s, keep string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// EscapeWriter writes foreign bytes to w as EscapeLines does, carriage returns
// before a newline left out. A character that is split over two calls of Write
// is put together again; Close writes what is left of one.
func EscapeWriter(w io.Writer) io.WriteCloser { return &escapeWriter{w: w} }

type escapeWriter struct {
	w    io.Writer
	rest []byte // the beginning of a character, or a carriage return
}

func (e *escapeWriter) Write(p []byte) (int, error) {
	b := append(e.rest, p...)
	cut := len(b)
	if cut > 0 && b[cut-1] == '\r' {
		cut--
	} else {
		cut -= incomplete(b)
	}
	text := strings.ReplaceAll(string(b[:cut]), "\r\n", "\n")
	e.rest = append([]byte(nil), b[cut:]...)
	if _, err := io.WriteString(e.w, EscapeLines(text)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (e *escapeWriter) Close() error {
	_, err := io.WriteString(e.w, EscapeLines(string(e.rest)))
	e.rest = nil
	return err
}

// incomplete is the number of bytes at the end of b that may be the beginning
// of a character.
func incomplete(b []byte) int {
	for n := 1; n <= min(len(b), utf8.UTFMax-1); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
