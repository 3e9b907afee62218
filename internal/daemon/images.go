package daemon

import (
	"context"
	"os"
	"os/user"
	"strings"

	"banger"
	"banger/internal/bundle"
	"banger/internal/image"
	"banger/internal/vm"
)

// images is the catalogue as the vm package sees it.
type images struct{ *image.Catalog }

func (i images) Resolve(ctx context.Context, name, bundle string, rep vm.Reporter) (banger.Image, error) {
	return i.Catalog.Resolve(ctx, name, bundle, rep)
}

func (i images) Files(ctx context.Context, img banger.Image) (vm.Files, error) {
	f, err := i.Catalog.Files(ctx, img)
	return vm.Files(f), err
}

// bundles implements handler.Bundles and image.Bundles.
type bundles struct {
	builder bundle.Builder
	search  bundle.Search
	named   []string // by the environment or the configuration, in this order
	images  func(context.Context, banger.Bundle, vm.Reporter) error
	one     chan struct{} // held while a bundle is built
}

// Find implements image.Bundles.
func (b bundles) Find(dir string) (banger.Bundle, error) {
	s := b.search
	s.Flag = dir
	if len(b.named) > 0 {
		s.Config = b.named[0]
		if s.Config == os.Getenv("BANGER_RUNTIME_DIR") {
			s.Env, s.Config = s.Config, ""
		}
	}
	return bundle.Find(s)
}

// Build implements handler.Bundles: one at a time. The new bundle is
// registered, so that the first VM does not wait for it to be hashed.
func (b bundles) Build(ctx context.Context, dir string, rep vm.Reporter) (banger.Bundle, error) {
	select {
	case b.one <- struct{}{}:
		defer func() { <-b.one }()
	default:
		return banger.Bundle{}, banger.Errorf(banger.Busy, "another bundle is being built").WithRemedy("wait until it is done")
	}
	made, err := b.builder.Build(ctx, dir, rep)
	if err != nil {
		return banger.Bundle{}, err
	}
	return made, b.images(ctx, made, rep)
}

// Verify implements handler.Bundles.
func (b bundles) Verify(ctx context.Context, dir string, rep vm.Reporter) (banger.Bundle, error) {
	found, err := b.Find(dir)
	if err != nil {
		return banger.Bundle{}, err
	}
	return found, bundle.Verify(ctx, found, rep)
}

// userName is the daemon's user as /etc/subuid knows it.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// proxies are the settings that apt needs to reach its archive.
func proxies() []string {
	var env []string
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "ftp_proxy"} {
		for _, n := range []string{name, strings.ToUpper(name)} {
			if v, ok := os.LookupEnv(n); ok {
				env = append(env, n+"="+v)
			}
		}
	}
	return env
}
