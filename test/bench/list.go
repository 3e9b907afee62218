package main

import (
	"context"
	"fmt"
	"os/exec"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
	"banger/internal/api/client"
)

const (
	lots    = 1000 // stopped VMs in a list
	atATime = 16   // of them that are being made
)

// listed compares banger ps with curl(1) that fetches the same bytes, both as
// whole processes, with many stopped VMs.
func (b *bench) listed(ctx context.Context) ([]row, error) {
	in := b.in
	progress("%d stopped VMs", lots)
	lock, _, err := in.sandbox.Lock()
	if err != nil {
		return nil, err
	}
	c := client.New(lock.Socket)
	g, making := errgroup.WithContext(ctx)
	g.SetLimit(atATime)
	for i := range lots {
		g.Go(func() error {
			op, err := c.CreateVM(making, api.CreateRequest{Name: api.Some(fmt.Sprintf("s%d", i)), NoStart: true})
			if err == nil {
				_, err = op.Wait(making, nil)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var ps, curl []float64
	for range 20 {
		s, err := timed(func() error { return in.banger(ctx, "ps") })
		if err != nil {
			return nil, err
		}
		ps = append(ps, s)
		cmd := exec.CommandContext(ctx, "curl", "-sf", "-d", "{}", "--unix-socket", lock.Socket, "http://bangerd"+api.Prefix+api.VMList)
		if s, err = timed(cmd.Run); err != nil {
			return nil, fmt.Errorf("curl: %w", err)
		}
		curl = append(curl, s)
	}
	if err := in.banger(ctx, "vm", "delete", "-q", "--all"); err != nil {
		return nil, err
	}
	return []row{ratio(fmt.Sprintf("banger ps, %d VMs", lots), ps, "curl of the same bytes", curl, 2)}, nil
}
