package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"banger/test/sandbox"
)

// A shell is a real one on a terminal, with banger's completion loaded as its
// users load it.
type shell struct {
	name string
	argv []string // %s is the directory that has its configuration
	conf map[string]string
}

// prompt is what a shell shows when it takes a line.
const prompt = "READY> "

var shells = []shell{
	{"bash", []string{"bash", "--noprofile", "--rcfile", "%s/rc", "-i"}, map[string]string{
		"rc": ". /usr/share/bash-completion/bash_completion\n. <(banger completion bash)\nPS1='" + prompt + "'\nbind 'set show-all-if-ambiguous on'\nbind 'set enable-bracketed-paste off'\nbind 'set bell-style none'\n",
	}},
	{"zsh", []string{"zsh", "-i"}, map[string]string{ // ZDOTDIR is the directory
		".zshrc": "autoload -U compinit\ncompinit -u -d \"$ZDOTDIR/dump\"\n. <(banger completion zsh)\nPS1='" + prompt + "'\nsetopt no_beep no_prompt_cr no_prompt_sp\nunsetopt zle_bracketed_paste 2>/dev/null\nzstyle ':completion:*' list-prompt ''\n",
	}},
	{"fish", []string{"fish", "--no-config", "-i", "-C", "source %s/rc"}, map[string]string{
		"rc": "banger completion fish | source\nfunction fish_prompt; printf '" + prompt + "'; end\nset -g fish_greeting\nset -g fish_autosuggestion_enabled 0\n",
	}},
}

// shellLimit ends a shell that does not say what is awaited.
const shellLimit = time.Minute

// Names of VMs and images, verbs and flags are completed in the shells that
// people use, by a press of the tabulator key.
func TestCompletionInRealShells(t *testing.T) {
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("runs the built programs: make test")
	}
	s, err := sandbox.Make()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	bundle := filepath.Join(s.Dir, "bundle")
	if err := makeBundle(bundle); err != nil {
		t.Fatal(err)
	}
	s.Set("BANGER_RUNTIME_DIR", bundle)
	for _, name := range []string{"web-one", "database"} {
		if out, err := s.Command(t.Context(), "vm", "create", "--name", name, "--no-start").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, sh := range shells {
		t.Run(sh.name, func(t *testing.T) {
			if _, err := exec.LookPath(sh.name); err != nil {
				t.Skipf("COMPLETION IN %s IS NOT TESTED: %v (apt install %s)", strings.ToUpper(sh.name), err, sh.name)
			}
			if sh.name == "bash" {
				if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil {
					t.Skipf("COMPLETION IN BASH IS NOT TESTED: %v (apt install bash-completion)", err)
				}
			}
			for _, c := range []struct{ typed, completed string }{
				{"banger vm show web", "banger vm show web-one"},
				{"banger vm ssh-config data", "banger vm ssh-config database"},
				{"banger start da", "banger start database"},
				{"banger image show ti", "banger image show tiny"},
				{"banger vm create --image ti", "banger vm create --image tiny"},
				{"banger vm ssh-co", "banger vm ssh-config"},
				{"banger vm create --no-st", "banger vm create --no-start"},
			} {
				if err := sh.completes(t, s, c.typed, c.completed); err != nil {
					t.Errorf("%s: %v", c.typed, err)
				}
			}
		})
	}
}

// completes types a line and a tabulator key, and waits for what is wanted.
func (sh shell) completes(t *testing.T, s *sandbox.Sandbox, typed, want string) error {
	dir := t.TempDir()
	for name, text := range sh.conf {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	var argv []string
	for _, a := range sh.argv {
		argv = append(argv, strings.ReplaceAll(a, "%s", dir))
	}
	ctx, cancel := context.WithTimeout(t.Context(), shellLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(s.Environ(), "ZDOTDIR="+dir, "TERM=vt100", "HISTFILE=")
	cmd.Dir = dir
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		return err
	}
	seen := &screen{}
	err = seen.until(tty, prompt)
	if err == nil {
		_, err = io.WriteString(tty, typed+"\t")
	}
	if err == nil {
		err = seen.until(tty, want)
	}
	return errors.Join(err, cmd.Process.Kill(), ignoreKilled(cmd.Wait()), tty.Close())
}

func ignoreKilled(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// A screen is what a terminal was told, control sequences left out.
type screen struct{ text string }

var control = regexp.MustCompile(`\x1b(\[[0-9;?]*[a-zA-Z]|[()][0-9A-B]|[=>])|[\r\x08\x07]`)

// until reads until the screen has shown text since the last call. The end of
// the shell, which the deadline brings about, ends it too.
func (s *screen) until(r io.Reader, text string) error {
	buf := make([]byte, 4096)
	for {
		shown := control.ReplaceAllString(s.text, "")
		if i := strings.LastIndex(shown, text); i >= 0 {
			s.text = shown[i+len(text):]
			return nil
		}
		n, err := r.Read(buf)
		s.text += string(buf[:n])
		if err != nil {
			return fmt.Errorf("the shell does not show %q but %q: %w", text, shown, err)
		}
	}
}
