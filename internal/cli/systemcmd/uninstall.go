package systemcmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/launch"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// A Host is this machine as far as banger has changed it for an installation.
type Host interface {
	// Installed reports whether there is an installation.
	Installed() (bool, error)
	// Traces are what commands of banger's have put outside of its directories and
	// that is there now. tag is the installation's, "" if that cannot be had.
	Traces(tag string) ([]Trace, error)
	// Data are the directories with all that banger knows and keeps.
	Data() ([]string, error)
	// Purge removes them, and returns what stays in them since others made it.
	Purge() (others []string, err error)
	// Others are what stays, since somebody else put it there: of the user's, then of
	// root's.
	Others() (mine, roots []string, err error)
}

// A Trace is a file of the host's, or a part of one.
type Trace struct {
	What string `json:"what"`
	Path string `json:"path"`
	// Remove takes it away, or returns the commands by which the user can.
	Remove func(context.Context) (commands []string, err error) `json:"-"`
}

// Uninstalled is what banger uninstall prints.
type Uninstalled struct {
	Removed  []Trace  `json:"removed"`
	Commands []string `json:"commands"` // that the user is to run, for a shell
	Left     []string `json:"left"`     // paths that stay
	Done     bool     `json:"done"`     // false: it was only asked for
}

type uninstallOptions struct {
	yes, purge, dryRun bool
	format             streams.Format
}

func newUninstallAll(e Env) *cobra.Command {
	o := &uninstallOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop all VMs and take back what banger did to this host",
		Long: `Stop all VMs, end the daemon, and take back what banger did to this host: links,
routes and rules, the daemon's systemd unit, the line in ~/.ssh/config, and the file of
the host's resolver. VMs, images and keys stay, and the next command has them all
again; --purge deletes them, too. It says what it is about to do, and asks.

What somebody else made stays: the configuration file, bundles, the programs, and a
copy of banger-root and a line in sudoers that an administrator put there. These are
named at the end. Where only root may remove a thing, the commands are printed.`,
		Example: "  banger uninstall\n  banger uninstall --dry-run\n  banger uninstall --purge --yes",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runUninstall(cmd.Context(), e, o) },
	}
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.purge, "purge", false, "delete VMs, images, keys and logs, too")
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "only say what would be removed")
	addFormat(cmd, &o.format)
	return cmd
}

// A plan is what will be done, in this order.
type plan struct {
	c      Client // nil: there is no installation
	awoken bool   // the daemon did not run before
	vms    []banger.VM
	traces []Trace
	data   []string // to be deleted
}

func runUninstall(ctx context.Context, e Env, o *uninstallOptions) error {
	if !o.yes && !o.dryRun && !e.IO.InTerm {
		return banger.Errorf(banger.Invalid, "this asks first, and there is no terminal to ask on").WithRemedy("say --yes, or --dry-run to see what it would do")
	}
	p, err := e.plan(ctx, o)
	if err != nil {
		return err
	}
	u := Uninstalled{Removed: []Trace{}, Commands: []string{}, Left: []string{}}
	if len(p.traces)+len(p.data)+len(p.vms) == 0 && p.c == nil {
		e.IO.Note("there is nothing to take back")
		u.Done = true
		return e.printUninstalled(o, u, p)
	}
	p.describe(e.IO.Note)
	if o.dryRun {
		u.Removed = append(u.Removed, p.traces...)
		for _, d := range p.data {
			u.Removed = append(u.Removed, Trace{What: "data", Path: d})
		}
		return errors.Join(e.leave(ctx, p), e.printUninstalled(o, u, p))
	}
	if err := e.consent(o); err != nil {
		return errors.Join(err, e.leave(ctx, p))
	}
	if err := e.carryOut(ctx, p, &u); err != nil {
		return err
	}
	return e.printUninstalled(o, u, p)
}

func (e Env) plan(ctx context.Context, o *uninstallOptions) (p plan, err error) {
	tag := ""
	there, err := e.Host.Installed()
	if err != nil {
		return p, err
	}
	if there {
		// VMs live without a daemon, and only a daemon takes a VM down: one is started.
		_, none := e.Daemon.Find(ctx)
		p.awoken = errors.Is(none, launch.ErrNone)
		if p.c, err = e.Daemon.Connect(ctx); err != nil {
			return p, err
		}
		s, err := p.c.DaemonStatus(ctx)
		if err != nil {
			return p, err
		}
		tag = s.Tag
		if p.vms, err = p.c.ListVMs(ctx); err != nil {
			return p, err
		}
	}
	if p.traces, err = e.Host.Traces(tag); err != nil {
		return p, err
	}
	if o.purge {
		p.data, err = e.Host.Data()
	}
	return p, err
}

// describe says it to a person.
func (p plan) describe(note func(string, ...any)) {
	running := 0
	for _, v := range p.vms {
		if v.State != banger.StateStopped && v.State != banger.StateError {
			running++
		}
	}
	switch {
	case p.c != nil && len(p.data) > 0:
		note("deletes: all %d VMs, of which %d run, images and keys; the daemon ends", len(p.vms), running)
	case p.c != nil:
		note("stops:   %d of %d VMs, and the daemon", running, len(p.vms))
	}
	for _, t := range p.traces {
		note("removes: %s, %s", t.Path, t.What)
	}
	for _, d := range p.data {
		note("deletes: %s", d)
	}
	if p.c != nil && len(p.data) == 0 {
		note("keeps:   all %d VMs, images and keys; --purge deletes them", len(p.vms))
	}
}

// leave ends the daemon again if it was started to be asked; VMs go on.
func (e Env) leave(ctx context.Context, p plan) error {
	if !p.awoken {
		return nil
	}
	return e.Daemon.Stop(ctx)
}

// consent asks whether to go on; Canceled if not.
func (e Env) consent(o *uninstallOptions) error {
	if o.yes {
		return nil
	}
	fmt.Fprint(e.IO.Err, "Go on? [y/N] ")
	line, err := bufio.NewReader(e.IO.In).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return banger.Errorf(banger.Canceled, "nothing was removed")
	}
	return nil
}

// carryOut does it. After an error what was done stays so, and the next try does the
// rest.
func (e Env) carryOut(ctx context.Context, p plan, u *Uninstalled) error {
	if p.c != nil {
		var err error
		if len(p.data) > 0 {
			err = deleteVMs(ctx, p.c)
		} else {
			err = stopVMs(ctx, e, p.c)
		}
		if err != nil {
			return err // the daemon stays, since VMs do
		}
		if err := e.end(ctx); err != nil && !errors.Is(err, launch.ErrNone) {
			return err
		}
	}
	for _, t := range p.traces {
		commands, err := t.Remove(ctx)
		if err != nil {
			return fmt.Errorf("remove %s: %w", t.Path, err)
		}
		if len(commands) == 0 {
			u.Removed = append(u.Removed, t)
		}
		u.Commands = append(u.Commands, commands...)
	}
	if len(p.data) > 0 {
		others, err := e.Host.Purge()
		if err != nil {
			return err
		}
		for _, d := range p.data {
			u.Removed = append(u.Removed, Trace{What: "data", Path: d})
		}
		u.Left = append(u.Left, others...)
	}
	u.Done = true
	return nil
}

// deleteVMs starts all deletions before it waits for the first. Which VMs there are it
// asks anew: while somebody was asked whether to go on, others may have come.
func deleteVMs(ctx context.Context, c vmStopper) error {
	vms, err := c.ListVMs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var ops []*client.Op[banger.VM]
	for _, v := range vms {
		op, err := c.DeleteVM(ctx, api.DeleteRequest{VM: string(v.ID), Force: true})
		if err == nil {
			ops = append(ops, op)
		} else if banger.CodeOf(err) != banger.NotFound { // else somebody was faster
			errs = append(errs, err)
		}
	}
	for _, op := range ops {
		if _, err := op.Wait(ctx, nil); err != nil && banger.CodeOf(err) != banger.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// printUninstalled prints commands as they are, so that a shell can read them.
func (e Env) printUninstalled(o *uninstallOptions, u Uninstalled, p plan) error {
	mine, roots, err := e.Host.Others()
	if err != nil {
		return err
	}
	if p.c != nil && len(p.data) == 0 {
		data, err := e.Host.Data()
		if err != nil {
			return err
		}
		mine = append(data, mine...)
	}
	u.Left = append(append(u.Left, mine...), roots...)
	for _, path := range u.Left {
		e.IO.Note("stays:   %s", path)
	}
	if len(roots) > 0 {
		e.IO.Note("to remove what is root's: sudo rm -r %s", strings.Join(roots, " "))
	}
	if o.format != streams.Table {
		return e.IO.Print(o.format, u, nil)
	}
	for _, line := range u.Commands {
		if err := e.IO.Println(line); err != nil {
			return err
		}
	}
	return nil
}
