// Command lab runs things in the lab: a Debian machine that has KVM, device mapper
// and systemd, and Firecracker, emulated where the machine at hand has none of them.
//
//	lab image                                  make its disk image, if it is not there
//	lab run [flags] COMMAND [ARGUMENT…]        one command in a fresh machine
//	lab shell [flags]                          a shell in a fresh machine
//
// The scenarios beside it are tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		code = 125
	}
	os.Exit(code)
}

// An order is what the command line asks for.
type order struct {
	verb    string
	user    string
	dirs    []string
	timeout time.Duration
	serial  string
	command []string
}

var errUsage = errors.New("usage: lab image | lab run [flags] COMMAND [ARGUMENT…] | lab shell [flags]; -h for the flags")

func parse(args []string) (order, error) {
	if len(args) == 0 {
		return order{}, errUsage
	}
	o := order{verb: args[0]}
	f := flag.NewFlagSet("lab "+o.verb, flag.ContinueOnError)
	root := f.Bool("root", false, "as root; else as the user dev, who is in group kvm and may sudo")
	f.StringVar(&o.user, "user", "dev", "as `USER`: dev, plain (in no group, may sudo) or root")
	f.Func("dir", "have `DIR`, read-only, as /lab/BASENAME; may be repeated", func(d string) error {
		abs, err := filepath.Abs(d)
		o.dirs = append(o.dirs, abs)
		return err
	})
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end it all after this `TIME`, and exit with 125")
	f.StringVar(&o.serial, "serial", "", "keep the machine's serial console in `FILE`")
	if err := f.Parse(args[1:]); err != nil {
		return o, err
	}
	if *root {
		o.user = "root"
	}
	o.command = f.Args()
	switch {
	case o.verb == "run" && len(o.command) > 0:
	case o.verb == "shell" || o.verb == "image" && len(o.command) == 0:
	default:
		return o, errUsage
	}
	return o, nil
}

func run(ctx context.Context, args []string) (int, error) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	work, err := os.MkdirTemp("/tmp", "banger-lab-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	img, err := openImage(ctx, work)
	if err != nil || o.verb == "image" {
		return 0, err
	}
	code, err := o.carryOut(ctx, img)
	if errors.Is(err, errEmulator) { // known of QEMU, and of nothing that is tested here
		fmt.Fprintln(os.Stderr, "lab: once more, after", err)
		code, err = o.carryOut(ctx, img)
	}
	return code, err
}

func (o order) carryOut(ctx context.Context, img image) (code int, err error) {
	if o.verb == "run" {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %s", o.timeout))
		defer cancel()
	}
	var disks []disk
	for _, from := range o.dirs {
		d, err := img.disk(ctx, filepath.Base(from), from)
		if err != nil {
			return 0, err
		}
		disks = append(disks, d)
	}
	m, root, err := img.fresh(ctx, disks)
	if err != nil {
		return 0, err
	}
	defer func() {
		if o.serial != "" {
			err = errors.Join(err, os.WriteFile(o.serial, []byte(m.console()), 0o644))
		}
		err = errors.Join(err, m.end())
	}()
	defer root.Close()
	if o.verb == "shell" {
		return m.shell(ctx, o.user)
	}
	user, err := m.connect(ctx, o.user)
	if err != nil {
		return 0, err
	}
	defer user.Close()
	return m.command(ctx, user, quote(o.command), streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
}

// shell is ssh(1) to the machine, which makes a terminal of its own there.
func (m *machine) shell(ctx context.Context, user string) (int, error) {
	known := filepath.Join(m.dir, "known_hosts")
	key, err := os.ReadFile(m.image.file("known"))
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(known, append([]byte("lab "), key...), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-i", m.image.file("key"), "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile="+known,
		"-o", "HostKeyAlias=lab", "-p", fmt.Sprint(m.port), user+"@127.0.0.1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// quote makes one line of sh(1) of a command.
func quote(command []string) string {
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
