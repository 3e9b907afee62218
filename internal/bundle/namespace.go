package bundle

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"banger"
	"banger/internal/host"
)

// minSubIDs is how many subordinate ids the tree needs: ids 1 to 65534 (nobody).
const minSubIDs = 65534

// inside returns c wrapped so that it runs in namespaces of its own: mounts
// and processes vanish with it, however it ends. For an ordinary user there is
// a user namespace around these, in which the user is root and the
// subordinate ids are everybody else; every run maps them alike, so what one
// made another can read and remove. c.Files are inherited.
func (b *Builder) inside(c host.Cmd) host.Cmd {
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if b.UID != 0 {
		args = append([]string{"--map-root-user", "--map-auto"}, args...)
	}
	c.Args = append(append(args, "--", c.Tool), c.Args...)
	c.Tool = "unshare"
	return c
}

// removeAll removes dir with all that lies in it, whoever of the subordinate
// ids owns it. It works after ctx was cancelled too. A tool that was just
// killed may still be leaving: it is tried a few times.
func (b *Builder) removeAll(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var err error
	for range 5 {
		if _, err = os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		_, err = b.Runner.Run(ctx, b.inside(host.Cmd{Tool: "rm", Args: []string{"-rf", "--one-file-system", "--", dir}}))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return err
}

// checkSubIDs reports whether the user owns enough subordinate ids: newuidmap
// and newgidmap grant what these files say and nothing else.
func (b *Builder) checkSubIDs() error {
	for _, name := range []string{b.SubUIDFile, b.SubGIDFile} {
		f, err := os.Open(name)
		if err == nil {
			ok := false
			for s := bufio.NewScanner(f); s.Scan() && !ok; {
				ok = grants(s.Text(), b.User, b.UID)
			}
			f.Close()
			if ok {
				continue
			}
		}
		return banger.Errorf(banger.HostUnready, "user %s has no range of subordinate ids in %s, which building a bundle without root needs", b.User, name).
			WithRemedy("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", b.User)
	}
	return nil
}

// grants reports whether a line of subuid(5) gives the user enough ids.
func grants(line, user string, uid int) bool {
	f := strings.Split(line, ":")
	if len(f) != 3 || (f[0] != user && f[0] != strconv.Itoa(uid)) {
		return false
	}
	n, err := strconv.ParseUint(f[2], 10, 32)
	return err == nil && n >= minSubIDs
}
