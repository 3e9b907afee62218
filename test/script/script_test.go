// Package script runs the command line in *.txtar scripts against a daemon of
// the script's own: what a user types and reads. No VM is booted here (that is
// test/e2e), so the scripts need no bundle but a tiny one that is never run.
package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"banger/test/sandbox"
)

func TestScripts(t *testing.T) {
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("runs the built programs: make test")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		Setup:               setup,
		Condition:           condition,
		RequireExplicitExec: true,
		ContinueOnError:     true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":       code,
			"api":        call,
			"rows":       rows,
			"keys":       keys,
			"tinybundle": tinyBundle,
			"program":    program,
			"together":   together,
			"as":         as,
			"longpath":   longPath,
			"outlines":   outLines,
		},
	})
}

// setup gives a script a sandbox; $BIN has the programs, $STATE and $RUN are
// its directories, $BUNDLE is a bundle that can be registered and not booted.
func setup(env *testscript.Env) error {
	s, err := sandbox.Make()
	if err != nil {
		return err
	}
	env.Defer(func() {
		if err := s.Close(); err != nil {
			env.T().Log(err)
			env.T().Fatal("the sandbox did not end clean")
		}
	})
	bundle := filepath.Join(s.Dir, "bundle")
	if err := makeBundle(bundle); err != nil {
		return err
	}
	s.Set("BANGER_RUNTIME_DIR", bundle)
	env.Vars = append(env.Vars, s.Environ()...)
	env.Vars = append(env.Vars, "BIN="+s.Bin, "STATE="+s.State, "RUN="+s.Run, "BUNDLE="+bundle, "DIR="+s.Dir)
	env.Values[sandboxKey{}] = s
	return nil
}

type sandboxKey struct{}

func sandboxOf(ts *testscript.TestScript) *sandbox.Sandbox {
	return ts.Value(sandboxKey{}).(*sandbox.Sandbox)
}

// condition knows [root], [passt], [dig] and [dnsmasq] (it is installed) and [userns], which says
// whether an ordinary user may have a mount namespace.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "passt", "dig":
		_, err := exec.LookPath(name)
		return err == nil, nil
	case "dnsmasq": // in no ordinary user's PATH
		_, err := os.Stat("/usr/sbin/dnsmasq")
		return err == nil, nil
	case "userns":
		return unshares(), nil
	}
	return false, errUnknown(name)
}
