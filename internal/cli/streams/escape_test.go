package streams_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"banger/internal/cli/streams"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		"tab\tstays":         "tab\tstays",
		"a\nb\rc":            `a\x0ab\x0dc`,
		"\x1b]0;title\a":     `\x1b]0;title\x07`,
		"C1 \u009b31m":       `C1 \u{9b}31m`,
		"turned \u202e back": `turned \u{202e} back`,
		"no utf8 \xff\xfe":   `no utf8 \xff\xfe`,
		"grüße 世界":           "grüße 世界",
		"del \x7f":           `del \x7f`,
		"cut \xe4\xb8":       `cut \xe4\xb8`,
		"real \ufffd stays":  "real \ufffd stays",
		"line\u2028break":    `line\u{2028}break`,
	} {
		if got := streams.Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEscapeWriterJoinsWhatWasSplit(t *testing.T) {
	const in = "grüße\r\n世界\x1b[31m\r\nend\r\xe4"
	var whole bytes.Buffer
	write(t, &whole, in, len(in))
	if want := "grüße\n世界\\x1b[31m\nend\\x0d\\xe4"; whole.String() != want {
		t.Fatalf("got %q, want %q", whole.String(), want)
	}
	for n := 1; n < len(in); n++ {
		var b bytes.Buffer
		write(t, &b, in, n)
		if b.String() != whole.String() {
			t.Errorf("in pieces of %d: %q", n, b.String())
		}
	}
}

func FuzzEscapeWriter(f *testing.F) {
	f.Add("grüße\r\n\x1b[0m\xff", 3)
	f.Fuzz(func(t *testing.T, in string, n int) {
		var whole, pieces bytes.Buffer
		write(t, &whole, in, max(1, len(in)))
		write(t, &pieces, in, max(1, n%16))
		if whole.String() != pieces.String() {
			t.Errorf("%q whole, %q in pieces", whole.String(), pieces.String())
		}
		if !utf8.ValidString(whole.String()) {
			t.Errorf("%q is not UTF-8", whole.String())
		}
		for _, r := range whole.String() {
			if unicode.IsControl(r) && !strings.ContainsRune("\t\n", r) {
				t.Errorf("%q has the control character %x", whole.String(), r)
			}
		}
	})
}

func write(t *testing.T, to *bytes.Buffer, in string, n int) {
	t.Helper()
	w := streams.EscapeWriter(to)
	for len(in) > 0 {
		k := min(n, len(in))
		if _, err := w.Write([]byte(in[:k])); err != nil {
			t.Fatal(err)
		}
		in = in[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
