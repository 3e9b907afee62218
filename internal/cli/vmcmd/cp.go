package vmcmd

import (
	"context"
	"path/filepath"
	"strings"

	"banger"
	"banger/internal/api"

	"github.com/spf13/cobra"
)

type copier interface {
	// CopyVM moves a stream of files into a VM or out of it.
	CopyVM(ctx context.Context, r api.CopyRequest, s api.ExecStreams) (api.ExecExit, error)
}

// A place is one side of a copy.
type place struct {
	vm     string // "": here
	path   string
	stream bool // a tar stream on stdin or stdout; nothing else is set
}

func (p place) String() string {
	switch {
	case p.stream:
		return "-"
	case p.vm != "":
		return p.vm + ":" + p.path
	}
	return p.path
}

// parsePlace reads SRC or DST. A colon before any slash ends a VM's name, as
// with scp(1): ./a:b is a file here.
func parsePlace(s string) (place, error) {
	if s == "-" {
		return place{stream: true}, nil
	}
	if vm, path, ok := strings.Cut(s, ":"); ok && !strings.Contains(vm, "/") {
		if vm == "" {
			return place{}, banger.Errorf(banger.Invalid, "%q names no VM", s).WithRemedy("say VM:PATH, or ./%s for a file here", s)
		}
		return place{vm: vm, path: path}, nil
	}
	if s == "" {
		return place{}, banger.Errorf(banger.Invalid, "a path is empty")
	}
	return place{path: s}, nil
}

type cpOptions struct{ src, dst place }

// parse reads both sides and refuses what makes no sense together.
func (o *cpOptions) parse(src, dst string) (err error) {
	if o.src, err = parsePlace(src); err != nil {
		return err
	}
	if o.dst, err = parsePlace(dst); err != nil {
		return err
	}
	if o.src.vm == "" && o.dst.vm == "" {
		return banger.Errorf(banger.Invalid, "neither %q nor %q is in a VM", src, dst).WithRemedy("say VM:PATH on one side: banger vm cp notes.txt web:/tmp")
	}
	return nil
}

func newCP(e Env) *cobra.Command {
	o := &cpOptions{}
	return &cobra.Command{
		Use:   "cp SRC DST",
		Short: "Copy files and directories into or out of a VM",
		Long: `Copy a file or a directory with all that is in it. One side is VM:PATH, or both
are; a PATH that is not absolute begins in root's home directory. Modes, times,
symbolic and hard links and holes stay; so do owners, where yours are root's in
the VM and the other way around. Devices, FIFOs and sockets are left out.

A directory DST receives the copy under SRC's name; where there is nothing, the
copy becomes DST. SRC ending in /. means what is in the directory. Files that
exist are replaced, files that only DST has stay.

"-" is a tar stream: as SRC it is read from stdin and unpacked in the directory
DST, as DST it is written to stdout. The image needs no tar.

What comes out of a VM is written below DST only, whatever the VM sends, and
without set-uid and set-gid bits.`,
		Example: `  banger vm cp notes.txt web:/srv
  banger vm cp web:/etc/nginx .
  banger vm cp project/. web:project
  git archive HEAD | banger vm cp - web:/srv`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(args[0], args[1]); err != nil {
				return err
			}
			if err := e.checkStreams(o); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runCP(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.places,
	}
}

// checkStreams refuses to read a tar stream from a terminal or to write one to it.
func (e Env) checkStreams(o *cpOptions) error {
	if o.src.stream && e.IO.InTerm {
		return banger.Errorf(banger.Invalid, "a tar stream comes from no terminal").WithRemedy("tar c . | banger vm cp - %s", o.dst)
	}
	if o.dst.stream && e.IO.OutTerm {
		return banger.Errorf(banger.Invalid, "a tar stream is nothing for a terminal").WithRemedy("banger vm cp %s - | tar t", o.src)
	}
	return nil
}

func runCP(ctx context.Context, e Env, o *cpOptions, c interface {
	copier
	shower
	waiter
}) error {
	for _, p := range []place{o.src, o.dst} {
		if p.vm == "" {
			continue
		}
		if err := e.awaitReady(ctx, c, p.vm); err != nil {
			return err
		}
	}
	t := e.newTransfer(o)
	defer e.IO.Progress().Close()
	var err error
	switch {
	case o.src.vm == "":
		err = t.into(ctx, c)
	case o.dst.vm == "":
		err = t.outOf(ctx, c)
	default:
		err = t.between(ctx, c)
	}
	return t.end(err)
}

// places completes VM: and, once that is there or the word is a path, files.
func (e Env) places(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if strings.ContainsAny(word, ":/.~") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, _ := e.vmNames(isLive)(cmd, nil, word)
	words := make([]string, 0, len(names))
	for _, n := range names {
		words = append(words, n+":") // a path in that VM
	}
	// cobra's scripts offer files only where nothing else fits.
	here, _ := filepath.Glob(word + "*") // the one error is a bad pattern: no file then
	words = append(words, here...)
	return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
