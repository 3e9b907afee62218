// Package bundlecmd is banger bundle VERB: the runtime bundle, which holds what
// VMs are booted with.
package bundlecmd

import (
	"context"
	"encoding/json"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO      *streams.Streams
	Default func() (string, error) // the directory that a bundle is built in unless told otherwise
	Connect func(context.Context) (Client, error)
	Report  func(banger.Event) // shows an event of an operation
}

// A Client is the daemon, as far as all verbs together need it.
type Client interface {
	builder
	shower
	verifier
}

type builder interface {
	BuildBundle(ctx context.Context, r api.BundleBuildRequest) (*client.Op[api.BundleInfo], error)
}

type shower interface {
	ShowBundle(ctx context.Context, r api.BundleRequest) (api.BundleInfo, error)
}

type verifier interface {
	VerifyBundle(ctx context.Context, r api.BundleRequest) (*client.Op[api.BundleInfo], error)
}

// New returns banger bundle.
func New(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bundle",
		Short:   "Build, show and verify the runtime bundle",
		Example: "  banger bundle build\n  banger bundle show",
		Long: `Build, show and verify the runtime bundle: the directory with the kernel, the
initramfs, the modules and the base image that VMs are booted with, and
bundle.json, which names each with its SHA-256 and its origin.`,
	}
	cmd.AddCommand(newBuild(e), newShow(e), newVerify(e))
	return cmd
}

// follow shows an operation's progress to its end. Ctrl-C, which ends ctx,
// stops it, and then its end is awaited: no half of a bundle is left behind.
func (e Env) follow(ctx context.Context, start func(context.Context) (*client.Op[api.BundleInfo], error)) (api.BundleInfo, error) {
	if err := ctx.Err(); err != nil {
		return api.BundleInfo{}, err
	}
	life := context.WithoutCancel(ctx)
	op, err := start(life)
	if err != nil {
		return api.BundleInfo{}, err
	}
	defer context.AfterFunc(ctx, func() {
		e.IO.Note("stopping")
		_ = op.Cancel(life) // if that fails, Wait will tell how it ended
	})()
	info, err := op.Wait(life, e.Report)
	if banger.CodeOf(err) == banger.Canceled && ctx.Err() != nil {
		err = &banger.Error{Code: banger.Canceled, Message: "interrupted; nothing was changed", Err: ctx.Err()}
	}
	return info, err
}

// manifestOf reads the manifest that the daemon passed on.
func manifestOf(info api.BundleInfo) (banger.Bundle, error) {
	b := banger.Bundle{Dir: info.Dir}
	if err := json.Unmarshal(info.Manifest, &b); err != nil {
		return b, banger.Errorf(banger.Invalid, "read the manifest of %s: %w", info.Dir, err)
	}
	return b, nil
}
