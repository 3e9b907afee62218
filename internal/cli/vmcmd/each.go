package vmcmd

import (
	"context"
	"errors"
	"slices"
	"sync"

	"banger"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

// atOnce is how many VMs are worked on at a time: the daemon takes any number,
// but the host's CPUs do not.
const atOnce = 8

// A verb is one operation that is done to each of any number of VMs.
type verb struct {
	fits      func(banger.VM) bool // what --all and completion offer
	all       string               // what --all means
	interrupt onInterrupt
	check     func(*cobra.Command) error // of flags of its own; may be nil
	do        func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error)
}

// onVMs makes cmd, which says what it is called and how it is explained, the
// command of v: VM... or --all.
func (e Env) onVMs(cmd *cobra.Command, v verb) *cobra.Command {
	var all bool
	cmd.Flags().BoolVar(&all, "all", false, v.all)
	cmd.ValidArgsFunction = e.vmNames(v.fits)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkTargets(args, all); err != nil {
			return err
		}
		if v.check != nil {
			if err := v.check(cmd); err != nil {
				return err
			}
		}
		c, err := e.Connect(cmd.Context())
		if err != nil {
			return err
		}
		vms, err := targets(cmd.Context(), c, args, all, v.fits)
		if err != nil {
			return err
		}
		return e.each(cmd.Context(), vms, v.interrupt, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
			return v.do(ctx, c, vm)
		})
	}
	return cmd
}

type lister interface {
	ListVMs(ctx context.Context) ([]banger.VM, error)
}

// targets are the VMs that a verb is for: those named, or with all those that
// it makes sense for. Repeats are left out.
func targets(ctx context.Context, c lister, named []string, all bool, fits func(banger.VM) bool) ([]string, error) {
	if all {
		vms, err := c.ListVMs(ctx)
		if err != nil {
			return nil, err
		}
		for _, vm := range vms {
			if fits(vm) {
				named = append(named, vm.Name)
			}
		}
	}
	var names []string
	for _, n := range named {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// checkTargets refuses a command line with neither VMs nor --all, or with both.
func checkTargets(named []string, all bool) error {
	switch {
	case all && len(named) > 0:
		return banger.Errorf(banger.Invalid, "--all and the names of VMs exclude each other")
	case !all && len(named) == 0:
		return banger.Errorf(banger.Invalid, "which VM?").WithRemedy("name one or more, or say --all; see: banger vm list")
	}
	return nil
}

// each runs one operation per VM, several at a time, and prints the name of
// each VM that it succeeded for. Its error joins those of all others.
func (e Env) each(ctx context.Context, names []string, what onInterrupt, start func(ctx context.Context, vm string) (*client.Op[banger.VM], error)) error {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, atOnce)
		errs  = make([]error, len(names))
	)
	for i, name := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			one := e
			if len(names) > 1 {
				one.Report = func(ev banger.Event) {
					if ev.Step != "" {
						ev.Step = name + ": " + ev.Step
					}
					if ev.Message != "" {
						ev.Message = name + ": " + ev.Message
					}
					e.Report(ev)
				}
			}
			vm, err := one.follow(ctx, what, func(ctx context.Context) (*client.Op[banger.VM], error) { return start(ctx, name) })
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = e.IO.Println(vm.Name)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
