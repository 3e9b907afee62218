package launch

import "banger/internal/api"

// Judge is judge, in words.
func Judge(lock api.LockFile, build string, mtime int64) string {
	return map[verdict]string{use: "use", change: "change", refuse: "refuse"}[judge(lock, build, mtime)]
}
