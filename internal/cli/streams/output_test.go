package streams_test

import (
	"testing"

	"banger/internal/cli/streams"
)

type thing struct {
	Name string `json:"name"`
	Size int    `json:"size_bytes"`
}

func TestPrint(t *testing.T) {
	table := func(r *streams.Rows) {
		r.Add("NAME", "SIZE")
		r.Add("a\x1bb\tc", "")
	}
	for f, want := range map[streams.Format]string{
		streams.JSON:  "{\n  \"name\": \"<a\\u001bb>\",\n  \"size_bytes\": 3\n}\n",
		streams.YAML:  "name: \"<a\\eb>\"\nsize_bytes: 3\n",
		streams.Table: "NAME      SIZE\na\\x1bb c  -\n",
	} {
		s, _, out, _ := streams.Test()
		if err := s.Print(f, thing{"<a\x1bb>", 3}, table); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s:\n%q, want\n%q", f, out.String(), want)
		}
	}
}

// counted counts the calls of Write.
type counted struct{ writes int }

func (c *counted) Write(p []byte) (int, error) { c.writes++; return len(p), nil }

// A long table is not written cell by cell: each would be a call of the kernel's.
func TestTableIsWrittenAtOnce(t *testing.T) {
	s, _, _, _ := streams.Test()
	out := &counted{}
	s.Out = out
	err := s.Print(streams.Table, nil, func(r *streams.Rows) {
		for range 1000 {
			r.Add("NAME", "SIZE", "STATE")
		}
	})
	if err != nil || out.writes > 2 {
		t.Errorf("%d writes, %v", out.writes, err)
	}
}

func TestFormat(t *testing.T) {
	var f streams.Format
	for _, s := range streams.Formats() {
		if err := f.Set(s); err != nil || f.String() != s {
			t.Errorf("%s: %v, %v", s, f, err)
		}
	}
	if err := f.Set("xml"); err == nil {
		t.Error("xml accepted")
	}
}
