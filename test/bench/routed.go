package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/miekg/dns"

	"banger/internal/api"
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
	var named []float64
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
				if mode == "routed" {
					s, err := in.nameReady(ctx, name+"n")
					if err != nil {
						return err
					}
					named = append(named, s)
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
	return []row{
		ratio(what, times["routed"], "user network", times["user"], 1),
		limited("from the guest is ready to its name resolves", named, 0.010),
	}, nil
}

// nameReady starts a routed VM and deletes it; it returns how long after the daemon has
// said that it is ready its name was answered with its address, seconds.
func (in *installation) nameReady(ctx context.Context, name string) (float64, error) {
	if err := in.banger(ctx, "vm", "create", "-q", "--no-start", "--network", "routed", "--name", name); err != nil {
		return 0, err
	}
	c, err := in.sandbox.Client()
	if err != nil {
		return 0, err
	}
	status, err := c.DaemonStatus(ctx)
	if err != nil {
		return 0, err
	}
	op, err := c.StartVM(ctx, api.VMRequest{VM: name})
	if err != nil {
		return 0, err
	}
	conn, err := dns.Dial("udp4", status.DNS.Listen) // from this thread, so in this namespace
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := op.Wait(ctx, nil); err != nil {
		return 0, err
	}
	question := new(dns.Msg).SetQuestion(name+".vm.", dns.TypeA)
	s, err := timed(func() error {
		for ctx.Err() == nil {
			a, _, err := new(dns.Client).ExchangeWithConn(question, conn)
			if err != nil || len(a.Answer) > 0 {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	return s, in.banger(ctx, "vm", "delete", "-q", "--force", name)
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
