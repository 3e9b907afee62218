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
	"syscall"
	"time"

	"banger/test/sandbox"
)

func main() {
	boots := flag.Int("boots", 5, "boots of each kind")
	execs := flag.Int("execs", 20, "commands of each kind")
	out := flag.String("json", "", "also write the results to `FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, *boots, *execs, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, boots, execs int, out string) (err error) {
	if err := needBundle(ctx); err != nil {
		return err
	}
	stock, err := prepareStock(ctx, filepath.Join(sandbox.Root(), ".cache", "bench"))
	if err != nil {
		return err
	}
	in, err := install()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.sandbox.Close()) }()
	res, err := measure(ctx, in, stock, boots, execs)
	if err != nil {
		return err
	}
	if err := res.print(os.Stdout); err != nil {
		return err
	}
	if out == "" {
		return nil
	}
	return res.write(out)
}

// measure does everything in turns, and the cheap things between.
func measure(ctx context.Context, in *installation, stock stockImage, boots, execs int) (*results, error) {
	fresh, err := in.memory(ctx)
	if err != nil {
		return nil, err
	}
	// Not measured: the first VM registers the bundle, once per installation.
	model, err := in.learn(ctx)
	if err != nil {
		return nil, err
	}
	h := &hand{dir: in.sandbox.Dir, model: model, stock: stock}
	res := &results{At: time.Now().UTC().Truncate(time.Second), Machine: in.machine(ctx, model)}
	b := bootSamples{}
	for i := range boots {
		progress("boots, round %d of %d", i+1, boots)
		if err := b.round(ctx, in, h, i); err != nil {
			return nil, err
		}
	}
	progress("commands")
	e, err := commands(ctx, in, h, execs)
	if err != nil {
		return nil, err
	}
	used, err := in.memory(ctx)
	if err != nil {
		return nil, err
	}
	several, err := fleet(ctx, in, min(boots, 3))
	if err != nil {
		return nil, err
	}
	res.Rows = append(b.rows(), e,
		amount("disk of a new VM before its first boot", b.disk, 1<<20),
		amount("daemon's memory after its start (RSS)", []float64{fresh.rss}, 30<<20),
		amount("daemon's memory after all this (RSS)", []float64{used.rss}, 30<<20),
		amount("the same, proportional (PSS)", []float64{used.pss}, 30<<20),
	)
	res.Rows = append(res.Rows, several...)
	return res, nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "-- "+format+"\n", args...) }
