package launch

import (
	"os"
	"os/user"
	"strconv"
	"syscall"

	"banger"
)

// ours returns an error when path belongs to another user; one that is missing
// or cannot be looked at does not.
func ours(path, what string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return nil
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	who := strconv.Itoa(int(st.Uid))
	if u, err := user.LookupId(who); err == nil {
		who = u.Username
	}
	return banger.Errorf(banger.HostUnready, "%s belongs to user %s", what, who).
		WithRemedy("run banger as that user (sudo -u %s banger ...), or set BANGER_STATE_DIR to a directory of your own", who)
}
