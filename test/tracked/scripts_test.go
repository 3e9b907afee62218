package tracked

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout makes a git repository that holds a script of this one.
func checkout(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("../../scripts", script))
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "scripts/"+script, string(text))
	put(t, dir, "internal/main.go", "package main\n")
	if err := os.Chmod(filepath.Join(dir, "scripts", script), 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q")
	git(t, dir, "add", "-A")
	git(t, dir, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "first")
	return dir
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// A build is called by all that goes into it: a daemon of another is replaced.
func TestBuildsNames(t *testing.T) {
	dir := checkout(t, "build")
	stamp := func() string {
		t.Helper()
		out, err := exec.Command(filepath.Join(dir, "scripts", "build"), "stamp").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	clean := stamp()
	seen := map[string]string{clean: "nothing"}
	change := func(name, content string) {
		t.Helper()
		put(t, dir, name, content)
		now := stamp()
		if now != stamp() {
			t.Error("two builds of the same content differ")
		}
		if what, ok := seen[now]; ok {
			t.Errorf("after %s it is called %s, as after %s", name, now, what)
		}
		seen[now] = name
	}
	change("internal/main.go", "package main // changed\n")
	change("internal/new.go", "package main\n")
	change("internal/migrations/0009.sql", "SELECT 1;\n") // embedded, and not yet known to git
	change("internal/migrations/0009.sql", "SELECT 2;\n")
	git(t, dir, "clean", "-q", "-f", "-d")
	git(t, dir, "checkout", "-q", ".")
	if now := stamp(); now != clean {
		t.Errorf("clean again, and called %s, not %s", now, clean)
	}
}

// Elsewhere than on Linux on x86-64, one line says so.
func TestNeedElsewhere(t *testing.T) {
	for _, machine := range []string{"Darwin x86_64", "Linux aarch64"} {
		system, arch, _ := strings.Cut(machine, " ")
		bin := t.TempDir()
		put(t, bin, "uname", "#!/bin/sh\ncase $1 in -s) echo "+system+";; -m) echo "+arch+";; esac\n")
		if err := os.Chmod(filepath.Join(bin, "uname"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("../../scripts/need", "make demo", "no-such-package")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 5 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), system+" on "+arch) {
			t.Errorf("%s: %v\n%s", machine, err, out)
		}
	}
}

// The program itself builds elsewhere, to say the same.
func TestProgramElsewhere(t *testing.T) {
	for _, target := range []string{"linux/arm64"} {
		goos, goarch, _ := strings.Cut(target, "/")
		file := filepath.Join(t.TempDir(), "banger")
		cmd := exec.Command("../../scripts/go", "build", "-o", file, "banger/cmd/banger")
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target, err, out)
			continue
		}
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), "works on Linux on x86-64 only") {
			t.Errorf("%s: the program does not say so (%v)", target, err)
		}
	}
}
