package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/inguest/boot"
)

// image makes a root of files ("path") and symlinks ("path -> target"); a file
// whose path ends in "!" is not executable.
func image(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		name, plain := strings.CutSuffix(name, "!")
		file := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, file)
		case plain:
			err = os.WriteFile(file, nil, 0o644)
		default:
			err = os.WriteFile(file, nil, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindInit(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"sysvinit":         {[]string{"sbin/init"}, "/sbin/init"},
		"merged usr":       {[]string{"usr/sbin/init -> ../lib/systemd/systemd", "usr/lib/systemd/systemd", "sbin -> usr/sbin", "lib -> usr/lib"}, "/sbin/init"},
		"absolute symlink": {[]string{"sbin/init -> /lib/systemd/systemd", "lib/systemd/systemd"}, "/sbin/init"},
		"only systemd":     {[]string{"usr/lib/systemd/systemd"}, "/usr/lib/systemd/systemd"},
		"old":              {[]string{"bin/init"}, "/bin/init"},
		"etc":              {[]string{"etc/init"}, "/etc/init"},
		"none":             {[]string{"bin/busybox"}, ""},
		"not executable":   {[]string{"sbin/init!", "bin/init"}, "/bin/init"},
		"a directory":      {[]string{"sbin/init/x"}, ""},
		"dangling":         {[]string{"sbin/init -> /nowhere"}, ""},
		"a loop":           {[]string{"sbin/init -> init"}, ""},
		// /bin/sh is there outside: it must not count
		"leads out": {[]string{"sbin/init -> /bin/sh", "etc/init -> ../../../../../../../../bin/sh"}, ""},
	} {
		got, err := boot.FindInit(image(t, c.entries...))
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, boot.ErrNoInit) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	root := image(t, "usr/lib/systemd/systemd", "lib -> /usr/lib", "sbin/init -> ../lib/systemd/../systemd/systemd")
	got, err := boot.Resolve(root, "/sbin/init")
	if err != nil || got != "/usr/lib/systemd/systemd" {
		t.Errorf("%q, %v", got, err)
	}
}
