// Command report reads the output of go test -json: it prints a line per
// package, what failed tests said, and keeps the counts in a file, so that
// several stages end in one summary.
//
//	go test -json ./... | report FILE    # FILE is appended to
//	report -total FILE                   # skips with their reasons, counts
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 2 && args[0] == "-total" {
		return total(args[1], out)
	}
	if len(args) != 1 {
		return fmt.Errorf("usage: report [-total] FILE")
	}
	c := &collector{out: out, output: map[key][]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // the go command's own words
			continue
		}
		c.take(e)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := keep(args[0], c.results); err != nil {
		return err
	}
	if c.failed > 0 {
		return fmt.Errorf("%d failed", c.failed)
	}
	return nil
}

func keep(file string, results []result) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, r := range results {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return f.Close()
}

// total prints the summary; its last line is "N passed, N failed, N skipped".
func total(file string, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	count := map[string]int{}
	for d := json.NewDecoder(f); ; {
		var r result
		if err := d.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		count[r.Action]++
		switch r.Action {
		case "skip":
			fmt.Fprintf(out, "skipped %s %s: %s\n", r.Package, r.Test, r.Why)
		case "fail":
			fmt.Fprintf(out, "failed %s", strings.TrimSpace(r.Package+" "+r.Test))
			if r.Why != "" {
				fmt.Fprintf(out, ": %s", r.Why)
			}
			fmt.Fprintln(out)
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
	return nil
}
