package sshconfig_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/sshconfig"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICnY7ONXgAx2v7hJF5ECd7LTJkwwhgoDVhrkhruceTOl"

var web = sshconfig.Host{ID: "0a1b2c3d", Name: "web", PublicKey: key + "\n"}

func installation(dir string) sshconfig.Installation {
	return sshconfig.Installation{
		Proxy: []string{"/usr/bin/env", "BANGER_STATE_DIR=" + dir, dir + "/banger", "vm", "ssh-proxy"},
		User:  "root", Identity: dir + "/id", KnownHosts: dir + "/known_hosts",
	}
}

// The real ssh(1) understands a block as it is meant, whatever is in the paths.
func TestBlock(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh here")
	}
	for _, name := range []string{"plain", "two words", "per%hcent", "it's"} {
		dir := filepath.Join(t.TempDir(), name)
		config, known, errs := sshconfig.Files(installation(dir), []sshconfig.Host{web, {ID: "1a1b2c3d", Name: "db", PublicKey: key}})
		if errs != nil {
			t.Fatal(errs)
		}
		if strings.Count(known, "\n") != 2 || !strings.Contains(known, "banger-0a1b2c3d "+key+"\n") {
			t.Errorf("known_hosts: %q", known)
		}
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, config, 0o600)
		out, err := exec.Command("ssh", "-F", file, "-G", "web.vm").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		got := strings.Split(string(out), "\n")
		for _, want := range []string{
			"user root", "stricthostkeychecking true", "identitiesonly yes", "hostkeyalias banger-0a1b2c3d",
			"hostkeyalgorithms ssh-ed25519", "globalknownhostsfile none", "updatehostkeys false",
		} {
			if !slices.Contains(got, want) {
				t.Errorf("%s: ssh -G does not say %q:\n%s", name, want, out)
			}
		}
		other, err := exec.Command("ssh", "-F", file, "-G", "web").CombinedOutput()
		if err != nil || strings.Contains(string(other), "banger") {
			t.Errorf("a host of the user's own is meant as well: %v\n%s", err, other)
		}
	}
}

// The command that reaches a VM is run by a shell, which must not split paths.
func TestProxyCommand(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh here")
	}
	dir := filepath.Join(t.TempDir(), "it's 100%h")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	said := filepath.Join(dir, "said")
	write(t, dir+"/banger", "#!/bin/sh\nprintf '%s|' \"$BANGER_STATE_DIR\" \"$@\" >\"$BANGER_STATE_DIR/said\"\n", 0o755)
	config, _, _ := sshconfig.Files(installation(dir), []sshconfig.Host{web})
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, config, 0o600)
	_ = exec.Command("ssh", "-F", file, "web.vm", "true").Run() // nobody answers
	b, err := os.ReadFile(said)
	if want := dir + "|vm|ssh-proxy|0a1b2c3d|"; err != nil || string(b) != want {
		t.Errorf("the command was told %q, %v; want %q", b, err, want)
	}
}

func TestBadHosts(t *testing.T) {
	for _, h := range []sshconfig.Host{
		{ID: "0a1b2c3d", Name: "web\nHost *", PublicKey: key},
		{ID: "0a1b2c3d", Name: "web *", PublicKey: key},
		{ID: "0a1b2c3d", Name: "", PublicKey: key},
		{ID: "0a1b 2c3d", Name: "web", PublicKey: key},
		{ID: "0a1b2c3d", Name: "web", PublicKey: "no-key"},
		{ID: "0a1b2c3d", Name: "web", PublicKey: "ssh-ed25519 \"AAAA"},
	} {
		if block, err := sshconfig.Block(installation("/d"), h); banger.CodeOf(err) != banger.Internal {
			t.Errorf("%+v: %q, %v", h, block, err)
		}
		config, known, errs := sshconfig.Files(installation("/d"), []sshconfig.Host{h, web})
		if len(errs) != 1 || strings.Count(config, "Host ") != 1 || strings.Count(known, "\n") != 1 {
			t.Errorf("%+v: %q, %q, %v", h, config, known, errs)
		}
	}
}

func write(t *testing.T, file, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
