package main

import (
	"fmt"
	"io"
	"strings"
)

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// A result is how one test, or a package without any, ended.
type result struct {
	Action, Package, Test, Why string
}

type key struct{ pkg, test string }

// A collector turns events into results and prints what a reader needs.
type collector struct {
	out     io.Writer
	output  map[key][]string
	results []result
	failed  int
	bad     map[string]bool // packages with a test that failed
}

func (c *collector) take(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		c.output[k] = append(c.output[k], e.Output)
		if line, ok := reported(e.Output); ok {
			fmt.Fprintln(c.out, line)
		}
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "pass", "fail", "skip":
		c.end(e)
		delete(c.output, k)
	}
}

// reported is what a test wants to be read though it passed: the text of a line
// that it logged with "report: " before it.
func reported(line string) (string, bool) {
	_, line, ok := strings.Cut(line, ".go:")
	if ok {
		_, line, ok = strings.Cut(line, ": report: ")
	}
	return strings.TrimRight(line, "\n"), ok
}

func (c *collector) end(e event) {
	said := c.output[key{e.Package, e.Test}]
	if e.Test == "" {
		c.endPackage(e, said)
		return
	}
	r := result{Action: e.Action, Package: e.Package, Test: e.Test}
	switch e.Action {
	case "skip":
		r.Why = reason(said)
	case "fail":
		c.failed++
		if c.bad == nil {
			c.bad = map[string]bool{}
		}
		c.bad[e.Package] = true
		fmt.Fprint(c.out, strings.Join(said, ""))
		r.Why = complaint(said)
	}
	c.results = append(c.results, r)
}

// complaint is the beginning of the first thing that a failed test said, for the
// summary: the whole of it may be far above, and be cut off by whoever keeps logs.
func complaint(said []string) string {
	const most = 500
	var first strings.Builder
	for _, line := range said {
		if file, _, ok := strings.Cut(strings.TrimSpace(line), ".go:"); first.Len() == 0 && (!ok || strings.Contains(file, " ")) {
			continue
		}
		if first.Len()+len(line) > most || strings.HasPrefix(line, "---") {
			break
		}
		first.WriteString(line)
	}
	return strings.TrimSpace(first.String())
}

func (c *collector) endPackage(e event, said []string) {
	if e.Action == "skip" {
		return // it has no tests
	}
	fmt.Fprintf(c.out, "%-5s %-40s %6.1f s\n", e.Action, e.Package, e.Elapsed)
	if e.Action == "fail" && !c.bad[e.Package] { // it did not build, or ended badly
		c.failed++
		c.results = append(c.results, result{Action: "fail", Package: e.Package})
		fmt.Fprint(c.out, strings.Join(said, ""))
	}
}

// reason is what a test said when it was skipped: the line before its end,
// without the file and line that go test puts before it.
func reason(said []string) string {
	for i := len(said) - 1; i >= 0; i-- {
		line := strings.TrimSpace(said[i])
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, why, ok := strings.Cut(line, ".go:"); ok {
			if _, why, ok = strings.Cut(why, ": "); ok {
				return why
			}
		}
		return line
	}
	return "no reason given"
}
