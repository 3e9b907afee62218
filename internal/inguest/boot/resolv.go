package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const resolvConf = "/etc/resolv.conf"

// writeResolvConf names the resolvers. A symlink into /run belongs to a program
// that has not started yet: the file that it leads to is made, for commands that
// come before that program, which then replaces it. A file is written when the
// identity changed: whatever it says first is of the machine that built the image.
func writeResolvConf(now appliedIdentity, changed, readOnly bool) error {
	text := resolvFile(now.Resolvers)
	if target, ok := runTarget(resolvConf); ok {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, []byte(text), 0o644)
	}
	switch {
	case readOnly:
		return coverFile(resolvConf, text, 0o644)
	case changed:
		if _, err := os.Stat(resolvConf); errors.Is(err, fs.ErrNotExist) {
			os.Remove(resolvConf) // a symlink that leads nowhere
		}
		return putFile(resolvConf, text, 0o644)
	}
	return nil
}

// runTarget returns where file leads when it is a symlink into /run.
func runTarget(file string) (string, bool) {
	target, err := os.Readlink(file)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(file), target)
	}
	target = filepath.Clean(target)
	if rest, ok := strings.CutPrefix(target, "/var/run/"); ok {
		target = "/run/" + rest
	}
	return target, strings.HasPrefix(target, "/run/")
}

func resolvFile(resolvers []string) string {
	var b strings.Builder
	for _, r := range resolvers {
		fmt.Fprintf(&b, "nameserver %s\n", r)
	}
	return b.String()
}
