package sshconfig_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/sshconfig"
)

// What was there before, also nothing at all, is there again after.
func TestInstallAndUninstall(t *testing.T) {
	for name, c := range map[string]struct {
		dir, file bool
		content   string
	}{
		"no directory":     {},
		"no file":          {dir: true},
		"an empty file":    {true, true, ""},
		"a file":           {true, true, "# mine\n\nHost web\n\tUser me\n"},
		"without an end":   {true, true, "Host web\n\tUser me"},
		"other line ends":  {true, true, "Host web\r\n\tUser me\r\n\r\n"},
		"no text":          {true, true, "\x00\xff\n"},
		"an include of it": {true, true, "Include other\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ssh := filepath.Join(dir, ".ssh")
			file, config, note := filepath.Join(ssh, "config"), filepath.Join(dir, "state dir", "config"), filepath.Join(dir, "note")
			if c.dir {
				if err := os.Mkdir(ssh, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if c.file {
				write(t, file, c.content, 0o640)
			}
			before := picture(t, dir)
			for i := range 2 {
				if changed, err := sshconfig.Install(file, config, note); err != nil || changed != (i == 0) {
					t.Fatalf("install %d: %v, %v", i, changed, err)
				}
				if b, err := os.ReadFile(file); err != nil || string(b) != "Include \""+config+"\"\n"+c.content {
					t.Errorf("install %d: %q, %v", i, b, err)
				}
			}
			for i := range 2 {
				if changed, err := sshconfig.Uninstall(file, config, note); err != nil || changed != (i == 0) {
					t.Fatalf("uninstall %d: %v, %v", i, changed, err)
				}
				if after := picture(t, dir); after != before {
					t.Errorf("uninstall %d: before\n%s\nafter\n%s", i, before, after)
				}
			}
		})
	}
}

func picture(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		b.WriteString(p + " " + st.Mode().String())
		if st.Mode().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + string(content))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whoever keeps the file elsewhere and links to it keeps the link.
func TestInstallThroughALink(t *testing.T) {
	dir := t.TempDir()
	real, file := filepath.Join(dir, "dotfiles"), filepath.Join(dir, "config")
	write(t, real, "Host x\n", 0o644)
	if err := os.Symlink("dotfiles", file); err != nil {
		t.Fatal(err)
	}
	before := picture(t, dir)
	if _, err := sshconfig.Install(file, "/c", filepath.Join(dir, "note")); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(file); err != nil || to != "dotfiles" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if _, err := sshconfig.Uninstall(file, "/c", filepath.Join(dir, "note")); err != nil {
		t.Fatal(err)
	}
	if after := picture(t, dir); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	if _, err := sshconfig.Install(file, "/c", filepath.Join(dir, "note")); err == nil {
		t.Error("a link to nothing was written through")
	}
	if _, err := sshconfig.Install(dir, "/c", filepath.Join(dir, "note")); err == nil {
		t.Error("a directory is a configuration")
	}
}

// What the user added to a file that install made is the user's.
func TestUninstallKeepsWhatCameLater(t *testing.T) {
	dir := t.TempDir()
	file, note := filepath.Join(dir, ".ssh", "config"), filepath.Join(dir, "note")
	if _, err := sshconfig.Install(file, "/c", note); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "# first\n"+string(b)+"Host mine\n", 0o600)
	if _, err := sshconfig.Uninstall(file, "/c", note); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "# first\nHost mine\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat(note); err == nil {
		t.Error("the note is still there")
	}
}

// The included file counts for ssh(1), and the user's own hosts still do.
func TestSSHReadsTheInclude(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh here")
	}
	dir := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, config := filepath.Join(dir, "config"), filepath.Join(dir, "all vms")
	text, _, _ := sshconfig.Files(installation(dir), []sshconfig.Host{web})
	write(t, config, text, 0o600)
	write(t, file, "Host mine\n\tPort 4321\n", 0o600)
	if _, err := sshconfig.Install(file, config, filepath.Join(dir, "note")); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"web.vm": "hostkeyalias banger-0a1b2c3d\n", "mine": "port 4321\n"} {
		out, err := exec.Command("ssh", "-F", file, "-G", host).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("ssh -G %s: %v\n%s", host, err, out)
		}
	}
}
