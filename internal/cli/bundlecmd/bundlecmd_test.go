package bundlecmd_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/bundlecmd"
	"banger/internal/cli/streams"
)

// fake is a daemon that shows one bundle and refuses the rest.
type fake struct{ asked []string }

var refused = banger.Errorf(banger.Busy, "one is being built")

func (f *fake) ask(what, dir string) { f.asked = append(f.asked, what+" "+dir) }

func (f *fake) BuildBundle(_ context.Context, r api.BundleBuildRequest) (*client.Op[api.BundleInfo], error) {
	f.ask("build", r.Dir)
	return nil, refused
}

func (f *fake) VerifyBundle(_ context.Context, r api.BundleRequest) (*client.Op[api.BundleInfo], error) {
	f.ask("verify", r.Dir)
	return nil, refused
}

func (f *fake) ShowBundle(_ context.Context, r api.BundleRequest) (api.BundleInfo, error) {
	f.ask("show", r.Dir)
	m, err := json.Marshal(banger.Bundle{Format: 1, Builder: "b1", Artifacts: []banger.BundleArtifact{
		{Kind: banger.KindKernel, Name: "debian", File: "vmlinuz", Size: 1 << 20, Default: true, Release: "6.1"},
	}})
	return api.BundleInfo{Dir: "/srv/runtime", Manifest: m}, err
}

func run(t *testing.T, env map[string]string, quiet bool, args string) (f *fake, out string, err error) {
	t.Helper()
	f = &fake{}
	s, _, o, _ := streams.Test()
	s.Quiet = quiet
	s.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cmd := bundlecmd.New(bundlecmd.Env{
		IO: s, Report: func(banger.Event) {},
		Default: func() (string, error) { return "/default/runtime", nil },
		Connect: func(context.Context) (bundlecmd.Client, error) { return f, nil },
	})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(strings.Fields(args))
	err = cmd.ExecuteContext(t.Context())
	return f, o.String(), err
}

func TestWhichBundle(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, banger.BundleManifest), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"BANGER_RUNTIME_DIR": dir}
	for _, c := range []struct {
		args string
		env  map[string]string
		want string
	}{
		{"build", nil, "build /default/runtime"},
		{"build --output out", env, "build " + filepath.Join(here, "out")},
		{"verify", nil, "verify "},
		{"verify", env, "verify " + dir},
		{"verify dir", env, "verify " + filepath.Join(here, "dir")},
		{"show", nil, "show "},
		{"show", env, "show " + dir},
		{"show /x/../y", nil, "show /y"},
	} {
		f, _, err := run(t, c.env, false, c.args)
		if got := strings.Join(f.asked, "\n"); got != c.want {
			t.Errorf("%s: asked for %q, want %q", c.args, got, c.want)
		}
		if !strings.HasPrefix(c.args, "show") && banger.CodeOf(err) != banger.Busy {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

// What the environment names is not passed over.
func TestNamedBundleIsMissing(t *testing.T) {
	for _, args := range []string{"show", "verify"} {
		f, _, err := run(t, map[string]string{"BANGER_RUNTIME_DIR": "/nothing/here"}, false, args)
		if banger.CodeOf(err) != banger.NotFound || !strings.Contains(err.Error(), "in /nothing/here (named by BANGER_RUNTIME_DIR)") || f.asked != nil {
			t.Errorf("%s: %v, asked for %q", args, err, f.asked)
		}
		_, _, err = run(t, map[string]string{"BANGER_RUNTIME_DIR": "runtime"}, false, args)
		if banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), "not an absolute path") {
			t.Errorf("%s, relative: %v", args, err)
		}
	}
}

func TestShow(t *testing.T) {
	_, out, err := run(t, nil, false, "show")
	want := `Directory  /srv/runtime
Built      0001-01-01 00:00:00, by banger b1

KIND    NAME    FILE     SIZE  RELEASE  OS  DEFAULT
kernel  debian  vmlinuz  1MiB  6.1      -   yes
`
	if err != nil || !strings.HasSuffix(out, want[strings.Index(want, "\n\n"):]) || !strings.HasPrefix(out, "Directory  /srv/runtime\nBuilt ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, out, err := run(t, nil, true, "show"); err != nil || out != "/srv/runtime\n" {
		t.Errorf("quiet: %v, %q", err, out)
	}
	_, out, err = run(t, nil, false, "show -o json")
	var info struct {
		Dir      string
		Manifest banger.Bundle
	}
	if err != nil || json.Unmarshal([]byte(out), &info) != nil || info.Manifest.Builder != "b1" || info.Dir != "/srv/runtime" {
		t.Errorf("%v\n%s", err, out)
	}
}
