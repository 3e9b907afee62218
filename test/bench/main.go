// Command bench measures what banger adds and what it saves, always as a ratio
// of two things that were done in turns on the same machine: times of a shared
// or emulated machine say nothing alone. It prints and never judges: its exit
// code says that everything was measured, not that it was fast.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"banger/test/sandbox"
)

// A group is rows that are measured together.
type group struct {
	name    string
	measure func(*bench, context.Context) ([]row, error)
	alone   bool // needs no installation, nor a VM
}

// groups are measured in this order.
var groups = []group{
	{"boot", (*bench).bootsOfEachKind, false},
	{"exec", (*bench).commands, false},
	{"memory", (*bench).memory, false},
	{"fleet", (*bench).fleet, false},
	{"cp", (*bench).copies, false},
	{"routed", (*bench).routed, false},
	{"set", (*bench).sets, true},
	{"dns", (*bench).names, true},
	{"through", (*bench).through, true},
	{"ps", (*bench).listed, false},
}

// apart is measured when it is asked for: it happens in another machine, and has a file of
// its own.
var apart = group{"lab", (*bench).lab, true}

// children are the parts that have a process of their own.
var children = map[string]func(context.Context) error{"names": serveNames, "sets": measureSets, "lab": measureLab}

// chosen returns the groups that a list names, with commas between; all for "".
func chosen(only string) ([]group, error) {
	if only == "" {
		return groups, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		wanted[name] = true
	}
	var some []group
	var known []string
	for _, g := range append(slices.Clone(groups), apart) {
		if wanted[g.name] {
			some = append(some, g)
		}
		delete(wanted, g.name)
		known = append(known, g.name)
	}
	for name := range wanted {
		return nil, fmt.Errorf("nothing is called %q; there is %s", name, strings.Join(known, ","))
	}
	return some, nil
}

var boots = flag.Int("boots", 5, "boots of each kind, and at most 3 rounds of other long things")

func main() {
	execs := flag.Int("execs", 20, "commands of each kind")
	only := flag.String("only", "", "measure only `WHAT`, with commas between: boot,exec,memory,fleet,cp,routed,set,dns,through,ps; or lab")
	child := flag.String("child", "", "be the `PART` of a measurement that has a process of its own")
	out := flag.String("json", "", "also write the results to `FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	some, err := chosen(*only)
	if part := children[*child]; part != nil {
		err = part(ctx)
	} else if err == nil {
		err = run(ctx, &bench{boots: *boots, execs: *execs, cache: filepath.Join(sandbox.Root(), ".cache", "bench")}, some, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is what the groups share.
type bench struct {
	boots, execs int
	cache        string // directory of what is made once
	in           *installation
	hand         *hand
	fresh        usage    // the daemon's memory right after its start
	inside       *machine // the lab's, once it was there
}

func run(ctx context.Context, b *bench, some []group, out string) (err error) {
	res := &results{At: time.Now().UTC().Truncate(time.Second), Machine: host()}
	if slices.ContainsFunc(some, func(g group) bool { return !g.alone }) {
		if err := b.prepare(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.in.sandbox.Close()) }()
		b.in.describe(ctx, &res.Machine, b.hand.model)
	}
	for _, g := range some {
		rows, err := g.measure(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		res.Rows = append(res.Rows, rows...)
	}
	if in := b.inside; in != nil {
		res.Machine.Lab, res.Machine.Firecracker, res.Machine.GuestKernel, res.Machine.Banger = in.Lab, in.Firecracker, in.GuestKernel, in.Banger
	}
	if err := res.print(os.Stdout); err != nil {
		return err
	}
	if out == "" {
		return nil
	}
	return res.write(out)
}

// prepare makes an installation, and learns how it starts a VM. Without an error the
// caller closes it.
func (b *bench) prepare(ctx context.Context) (err error) {
	if err := needBundle(ctx); err != nil {
		return err
	}
	key, err := prepareKey(ctx, b.cache)
	if err != nil {
		return err
	}
	if b.in, err = install(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.in.sandbox.Close())
		}
	}()
	if b.fresh, err = b.in.memory(ctx); err != nil {
		return err
	}
	// Not measured: the first VM registers the bundle, once per installation.
	model, err := b.in.learn(ctx)
	if err != nil {
		return err
	}
	b.hand = &hand{dir: b.in.sandbox.Dir, model: model, key: key}
	return nil
}

// memory is what the daemon takes with no VM.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	used, err := b.in.memory(ctx)
	return []row{
		amount("daemon's memory after its start (RSS)", []float64{b.fresh.rss}, 30<<20),
		amount("daemon's memory after all this (RSS)", []float64{used.rss}, 30<<20),
		amount("the same, proportional (PSS)", []float64{used.pss}, 30<<20),
	}, err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "-- "+format+"\n", args...) }
