package matrix

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A table is what was seen in each trial, and what is expected: the state that
// the VM is in once the next daemon has started.
type table struct {
	mu     sync.Mutex
	want   map[string]string // by trial
	got    map[string]string
	order  []string
	failed map[string]bool
	latter map[string]bool // left to another time
}

// rowOf are the columns of testdata: operation, point, fault, outcome.
const rowOf = "%-24s  %-28s  %-8s  %s\n"

// readTable reads testdata/NAME.rows.
func readTable(t *testing.T, name string) *table {
	t.Helper()
	b := &table{want: map[string]string{}, got: map[string]string{}, failed: map[string]bool{}, latter: map[string]bool{}}
	text, err := os.ReadFile(filepath.Join("testdata", name+".rows"))
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.FieldsFunc(strings.TrimSpace(strings.ReplaceAll(line, "  ", "\t")), func(r rune) bool { return r == '\t' })
		if len(f) != 4 || strings.HasPrefix(line, "#") {
			continue
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		b.want[strings.Join(f[:3], "/")] = f[3]
	}
	return b
}

// plan notes a trial that is to be made.
func (b *table) plan(trials []trial) {
	for _, c := range trials {
		b.order = append(b.order, c.String())
	}
}

// later notes a trial that is not made today. It has to have its row all the same.
func (b *table) later(c trial) { b.latter[c.String()] = true }

// end notes how a trial ended: outcome is "" if it did not come to its end.
func (b *table) end(t *testing.T, c trial, outcome string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if outcome != "" {
		b.got[c.String()] = outcome
	}
	if want := b.want[c.String()]; outcome != "" && outcome != want && !*update {
		t.Errorf("the VM is %s; its row in testdata says %q", outcome, want)
	}
	b.failed[c.String()] = t.Failed()
}

// finish prints the table by operation, and what there is no row or no trial of.
func (b *table) finish(t *testing.T, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *update {
		b.write(t, name)
		return
	}
	untested, leaks := 0, 0
	for _, c := range b.order {
		if b.got[c] == "" && !b.latter[c] || b.want[c] == "" {
			t.Errorf("untested: %s", c)
			untested++
		} else if b.failed[c] {
			leaks++
		}
	}
	for c := range b.want {
		if *only == "" && !slices.Contains(b.order, c) {
			t.Errorf("untested: %s has a row, and does not happen", c)
			untested++
		}
	}
	b.print(t)
	t.Logf("report: %s: %d cases, %d leaks, %d untested", name, len(b.order)-len(b.latter), leaks, untested)
}

// print prints a line per operation: how many cases, and what became of the VM.
func (b *table) print(t *testing.T) {
	cases, outcomes := map[string]int{}, map[string]map[string]int{}
	var names []string
	for _, c := range b.order {
		name, _, _ := strings.Cut(c, "/")
		if outcomes[name] == nil {
			names = append(names, name)
			outcomes[name] = map[string]int{}
		}
		if !b.latter[c] {
			cases[name]++
			outcomes[name][b.got[c]]++
		}
	}
	for _, name := range names {
		if cases[name] == 0 {
			continue
		}
		var parts []string
		for _, o := range slices.Sorted(maps.Keys(outcomes[name])) {
			parts = append(parts, fmt.Sprintf("%d %s", outcomes[name][o], orElse(o, "untested")))
		}
		t.Logf("report: %-24s %4d cases: %s", name, cases[name], strings.Join(parts, ", "))
	}
}

func (b *table) write(t *testing.T, name string) {
	var text strings.Builder
	text.WriteString("# What a VM is once the daemon after the broken one has started.\n")
	for _, c := range b.order {
		f := strings.Split(c, "/")
		fmt.Fprintf(&text, rowOf, f[0], f[1], f[2], b.got[c])
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".rows"), []byte(text.String()), 0o644); err != nil {
		t.Error(err)
	}
}
