package layout

// ResolveOn is Resolve on a host that keeps its volatile files in hostRun.
func ResolveOn(hostRun string, env func(string) string, uid int) (Layout, error) {
	return resolve(env, uid, hostRun)
}
