package launch

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// A verdict is what is to be done with a daemon that runs.
type verdict int

const (
	use    verdict = iota
	change         // put ours in its place
	refuse         // we cannot talk to it, and have nothing newer
)

// judge compares the daemon that runs with the one that we could start, whose
// file was last written at mtime (nanoseconds since 1970; 0: there is none). A
// daemon is replaced by a build that differs and is newer, so that two builds
// that are used in turn do not flap. Builds from a changed tree all carry the
// same name: there the file's time alone decides.
func judge(lock api.LockFile, build string, mtime int64) verdict {
	newer := mtime > lock.ExeMtime
	differs := lock.Build != build || strings.HasSuffix(build, "-dirty")
	switch {
	case lock.API > api.Version:
		return refuse
	case newer && (differs || lock.API < api.Version):
		return change
	case lock.API < api.Version:
		return refuse
	}
	return use
}

// replace ends the daemon of lock if it is to be replaced; again says that the
// caller has to look anew. A daemon that is busy is not ended, but used as long
// as we speak its language.
func (l *Launcher) replace(ctx context.Context, lock api.LockFile) (again bool, err error) {
	var mtime int64
	if exe, err := l.candidate(); err == nil {
		if fi, err := os.Stat(exe); err == nil {
			mtime = fi.ModTime().UnixNano()
		}
	}
	switch judge(lock, l.Build, mtime) {
	case use:
		return false, nil
	case refuse:
		return false, refusal(lock)
	}
	err = client.New(lock.Socket).StopDaemon(ctx, api.StopDaemonRequest{Replace: true})
	switch {
	case err == nil, hungUp(err):
		return true, l.gone(ctx, lock)
	case banger.CodeOf(err) == banger.Busy && lock.API == api.Version:
		l.IO.Note("using the bangerd that runs (build %s) until it is idle: %v", lock.Build, err)
		return false, nil
	}
	return false, err
}

func refusal(lock api.LockFile) error {
	if lock.API > api.Version {
		return banger.Errorf(banger.HostUnready, "the bangerd that runs (build %s) is newer than this banger", lock.Build).
			WithRemedy("use its banger: %s", filepath.Join(filepath.Dir(lock.Exe), "banger"))
	}
	return banger.Errorf(banger.HostUnready, "the bangerd that runs (build %s) is older than this banger", lock.Build).
		WithRemedy("end it, VMs go on: kill %d", lock.PID)
}
