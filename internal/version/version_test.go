package version_test

import (
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"banger/internal/version"
)

func TestStamped(t *testing.T) {
	info := func(kv ...string) *debug.BuildInfo {
		i := &debug.BuildInfo{}
		for n := 0; n < len(kv); n += 2 {
			i.Settings = append(i.Settings, debug.BuildSetting{Key: kv[n], Value: kv[n+1]})
		}
		return i
	}
	const rev = "0123456789abcdef0123456789abcdef01234567"
	for want, i := range map[string]*debug.BuildInfo{
		"0123456789ab":       info("vcs.revision", rev, "vcs.modified", "false"),
		"0123456789ab-dirty": info("vcs.modified", "true", "vcs.revision", rev),
		"0123":               info("vcs.revision", "0123"),
		"":                   info("vcs.modified", "true"),
	} {
		if got := version.Stamped(i); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := version.Stamped(nil); got != "" {
		t.Errorf("no build info: %q", got)
	}
}

// A test binary is stamped with no revision: its content stands for it.
func TestBuildWithoutStamp(t *testing.T) {
	b := version.Build()
	if !strings.HasPrefix(b, "exe-") || len(b) != len("exe-")+12 || b != version.Build() {
		t.Errorf("build %q", b)
	}
	if s := version.Version().String(); !strings.Contains(s, b) || !strings.Contains(s, version.Release) {
		t.Errorf("version %q", s)
	}
}

// The name that the Makefile gives the linker is the right one: this test runs
// itself once more, linked with it.
func TestLinkerSetsBuild(t *testing.T) {
	const env, want = "VERSION_TEST_LINKED", "v1-test"
	if os.Getenv(env) != "" {
		if b := version.Build(); b != want {
			t.Errorf("build %q, want %q", b, want)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-ldflags=-X banger/internal/version.build="+want, "-run=^TestLinkerSetsBuild$", ".")
	cmd.Env = append(os.Environ(), env+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
