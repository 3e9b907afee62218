package bundle

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"banger"
	"banger/internal/host"
)

const (
	suite       = "bookworm"
	imageName   = "debian-12"
	kernelMeta  = "linux-image-cloud-amd64" // depends on the newest real kernel package
	debianLabel = "debian " + suite
)

// packages is what the base image holds beyond Debian's essential packages:
// what a VM needs to be a machine, then what people reach for first in one.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", // init, and what systemctl and logins talk over
	"kmod",                     // modprobe: the modules image is of no use without it
	"iproute2", "iputils-ping", // ip, ss, ping
	"netbase",                // /etc/services and /etc/protocols
	"openssh-server", "sudo", // brings ssh, scp and sftp as well
	"ca-certificates", "curl", "git",
	"procps", "less", "nano", "bash-completion",
	"ncurses-term", // terminfo of today's terminals: without it TERM=alacritty breaks less and nano
}

// masked are the units that a VM does not need: they cost boot time or wake
// up later for hardware, logins and updates that a VM does not have.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", // background updates hold the dpkg lock when it is least wanted
	"dpkg-db-backup.timer",
	"e2scrub_all.timer", "e2scrub_reap.service", // need LVM
	"fstrim.timer",
	"getty.target", // the console is a log; root has no password to log in with
	"systemd-pstore.service",
}

// kernelHook runs inside mmdebstrap, outside of the tree, when the packages
// are in: it downloads the newest kernel package, checked by apt against the
// signed lists that are still there. The package is not installed: its
// scripts would want initramfs-tools.
const kernelHook = `cd "$BANGER_KERNEL_DIR" &&
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" &&
package=$(apt-cache show --no-all-versions ` + kernelMeta + ` | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p') &&
apt-get -qq -o APT::Sandbox::User=root download "$package"`

// phase matches what mmdebstrap says at the beginning of what takes long.
var phase = regexp.MustCompile(`^(running apt-get|downloading|extracting|installing|cleaning) `)

// bootstrap makes the Debian tree in w.tree and leaves the kernel package in
// w.kernel.
func (b *Builder) bootstrap(ctx context.Context, w *workspace, rep Reporter) error {
	args := []string{
		"--mode=root", "--format=directory", "--variant=minbase",
		"--include=" + strings.Join(packages, ","),
		`--dpkgopt=force-unsafe-io`, // the tree is thrown away: no need to sync it
		`--aptopt=Acquire::Languages "none"`,
		"--customize-hook=" + kernelHook,
	}
	for _, o := range b.proxies(ctx) {
		args = append(args, "--aptopt="+o) // prepareTree takes it out of the image again
	}
	args = append(append(args, suite, w.tree), b.sources(ctx)...)
	env := append([]string{"TMPDIR=" + w.tmp, "BANGER_KERNEL_DIR=" + w.kernel}, b.Env...)
	var complaints []string
	_, err := b.Runner.Run(ctx, b.inside(host.Cmd{
		Tool: "mmdebstrap", Args: args, Env: env, Dir: w.dir,
		// Should this daemon be killed, the lock lasts as long as the tool.
		Files: []*os.File{w.lock},
		Stderr: func(line string) {
			switch text, own := strings.CutPrefix(line, "I: "); {
			case ctx.Err() != nil: // how it tidies up is not interesting
			case own && phase.MatchString(text):
				rep.Message("%s", text)
			case strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "Err:"):
				complaints = append(complaints, line)
			}
		},
	}))
	if err != nil && len(complaints) > 0 && ctx.Err() == nil {
		return banger.Errorf(banger.HostUnready, "install Debian packages: %s: %w", complaints[0], err).
			WithRemedy("look whether this machine reaches its Debian mirror: sudo apt-get update")
	}
	if err != nil {
		return fmt.Errorf("install Debian packages: %w", err)
	}
	return nil
}

// installed returns the packages of the tree with their versions.
func (b *Builder) installed(ctx context.Context, tree string) (map[string]string, error) {
	out, err := b.Runner.Run(ctx, host.Cmd{
		Tool: "dpkg-query",
		Args: []string{"--admindir=" + tree + "/var/lib/dpkg", "-W", "-f", `${Package} ${Version}\n`},
	})
	if err != nil {
		return nil, fmt.Errorf("list installed packages: %w", err)
	}
	versions := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, banger.Errorf(banger.Internal, "list installed packages: bad line %q", line)
		}
		versions[name] = version
	}
	return versions, nil
}
