package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"banger/internal/privileged/client"
	"banger/test/netns"
)

// routed compares the two network modes by how long a VM takes until it runs a
// command. The installation is another one, in a network namespace: the host's
// network is not touched.
func (b *bench) routed(ctx context.Context) (rows []row, err error) {
	const what = "exec-ready, routed network"
	if os.Geteuid() != 0 {
		return []row{notMeasured(what, "needs root")}, nil
	}
	modes := []string{"routed", "user"}
	times := map[string][]float64{}
	err = netns.Run(func() (err error) {
		in, err := install()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.sandbox.Close(), exitRoot(ctx)) }()
		for i := range b.boots + 1 {
			progress("routed and user mode, round %d of %d", i, b.boots)
			for _, mode := range modes {
				name := fmt.Sprintf("%s%d", mode, i)
				if err := in.banger(ctx, "vm", "create", "-q", "--no-start", "--network", mode, "--name", name); err != nil {
					return err
				}
				s, err := in.execReady(ctx, name)
				if err != nil {
					return err
				}
				if i > 0 { // the first ones register the bundle and start banger-root
					times[mode] = append(times[mode], s)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []row{ratio(what, times["routed"], "user network", times["user"], 1)}, nil
}

// exitRoot ends the namespace's banger-root, which would wait for another daemon.
func exitRoot(ctx context.Context) error {
	c, err := client.Dial(ctx, os.Geteuid())
	if err != nil {
		return nil // it does not run
	}
	err = c.Exit(ctx)
	<-c.Done()
	return err
}
