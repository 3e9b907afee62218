package streams

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"
)

// A Format is how a result is written; it is the value of -o.
type Format string

const (
	Table Format = "table" // for people, may change
	JSON  Format = "json"  // stable and documented
	YAML  Format = "yaml"  // the same as YAML
)

// Formats are the values of -o.
func Formats() []string { return []string{string(Table), string(JSON), string(YAML)} }

func (f *Format) String() string { return string(*f) }
func (f *Format) Type() string   { return "FORMAT" }

// Set parses a value of -o.
func (f *Format) Set(s string) error {
	switch v := Format(s); v {
	case Table, JSON, YAML:
		*f = v
		return nil
	}
	return fmt.Errorf("want %s", strings.Join(Formats(), ", "))
}

// Print writes v to Out: as JSON or YAML, or as the table that rows writes.
func (s *Streams) Print(f Format, v any, rows func(*Rows)) error {
	switch f {
	case JSON:
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case YAML:
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = s.Out.Write(b)
		return err
	}
	out := bufio.NewWriterSize(s.Out, 64<<10) // tabwriter writes cell by cell
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	r := &Rows{w: w}
	rows(r)
	if r.err != nil {
		return r.err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return out.Flush()
}

// Println writes one line to Out, escaped.
func (s *Streams) Println(line string) error {
	_, err := fmt.Fprintln(s.Out, Escape(line))
	return err
}

// Rows is a table under way.
type Rows struct {
	w   io.Writer
	err error
}

// Add adds one row; cells are escaped, an empty one is shown as "-".
func (r *Rows) Add(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = strings.ReplaceAll(Escape(c), "\t", " ")
	}
	if _, err := fmt.Fprintln(r.w, strings.Join(cells, "\t")); r.err == nil {
		r.err = err
	}
}
