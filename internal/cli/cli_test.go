package cli_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/cli"
	"banger/internal/cli/streams"
)

var update = flag.Bool("update", false, "write the golden files")

// run runs a command line in an installation in which nothing is.
func run(t *testing.T, args string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", "") // an installed bangerd is not for this
	s, _, o, e := streams.Test()
	env := map[string]string{"BANGER_STATE_DIR": dir, "BANGER_RUN_DIR": "/nowhere/run", "HOME": dir}
	s.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	code = cli.Run(t.Context(), s, strings.Fields(args))
	return code, strings.ReplaceAll(o.String(), dir, "DIR"), strings.ReplaceAll(e.String(), dir, "DIR")
}

// What a mistake on the command line, or a host without a daemon, looks like.
func TestMistakes(t *testing.T) {
	var b strings.Builder
	for _, c := range []struct {
		args string
		code int
	}{
		{"frobnicate", 2},
		{"vm lst", 2},
		{"delete web", 2},
		{"dotcor", 2},
		{"bundle bild", 2},
		{"daemon stat", 2},
		{"vm list --outptu json", 2},
		{"run --memroy 2G", 2},
		{"vm list -x", 2},
		{"vm list -o xml", 2},
		{"run --cpu 0", 2},
		{"run --cpu", 2},
		{"vm create --memory 512", 2},
		{"vm set web --memory 0", 2},
		{"vm create --name Web_1", 2},
		{"vm show", 2},
		{"exec web ls -la", 2},
		{"exec web ls", 2},
		{"run x y -- z", 2},
		{"exec web", 2},
		{"restart web", 2},
		{"help nosuch", 2},
		{"help vm strat", 2},
		{"run -d", 2},
		{"run -p 8080:80", 2},
		{"vm create -v a:b", 2},
		{"ssh web -L 8080:localhost:80", 2},
		{"vm stop", 2},
		{"image delete", 2},
		{"version please", 2},
		{"daemon status", 5},
		{"daemon logs", 3},
		{"ps", 5},
	} {
		code, out, errs := run(t, c.args)
		if code != c.code || out != "" {
			t.Errorf("%s: exit code %d, want %d; stdout %q", c.args, code, c.code, out)
		}
		if lines := strings.Count(errs, "\n"); lines < 2 || lines > 3 {
			t.Errorf("%s: %d lines, want what failed and what to do", c.args, lines)
		}
		// Where this test lies is nobody's business.
		exe, _ := os.Executable()
		b.WriteString("$ banger " + c.args + "\n" + strings.ReplaceAll(errs, exe, "EXE"))
	}
	golden(t, "mistakes.txt", b.String())
}

func TestHelp(t *testing.T) {
	code, out, _ := run(t, "help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	golden(t, "help.txt", out)
	for _, args := range []string{"", "--help", "vm", "vm --help", "help vm create", "help exit-codes", "run -h"} {
		if code, out, errs := run(t, args); code != 0 || out == "" || errs != "" {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, errs)
		}
	}
}

// Every command says what it is for and shows how it is used.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if code, _, errs := run(t, "man "+dir); code != 0 {
		t.Fatal(errs)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, p := range pages {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if !strings.Contains(text, ".SH EXAMPLES") && !strings.Contains(p, "completion") {
			t.Errorf("%s has no example", filepath.Base(p))
		}
		if !strings.HasPrefix(text, `.TH BANGER`) || !strings.Contains(text, ".SH SYNOPSIS\n") {
			t.Errorf("%s: %s", p, text)
		}
	}
}

func TestVersionAndCompletion(t *testing.T) {
	code, out, _ := run(t, "version")
	if code != 0 || !strings.HasPrefix(out, "banger ") {
		t.Errorf("version: %d, %q", code, out)
	}
	if code, flag, _ := run(t, "--version"); code != 0 || flag != out {
		t.Errorf("--version: %d, %q, version says %q", code, flag, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := run(t, "completion "+shell); code != 0 || out == "" {
			t.Errorf("completion %s: %d, %q", shell, code, errs)
		}
	}
	// No daemon is started for a press of a key.
	if code, out, _ := run(t, "__complete vm stop w"); code != 0 || out != ":4\n" {
		t.Errorf("__complete: %d, %q", code, out)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test -update writes it anew): got\n%s\nwant\n%s", path, got, want)
	}
}
