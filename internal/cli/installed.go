package cli

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"banger/internal/api/client"
	"banger/internal/cli/launch"
	"banger/internal/cli/systemcmd"
	"banger/internal/config"
)

// installed is the installation that this environment means, found out when it
// is first asked for.
type installed struct {
	get  func() (*launch.Launcher, error)
	once sync.Once
	l    *launch.Launcher
	err  error

	root    sync.Mutex // held while banger-root is being started
	started bool       // it was
}

func (i *installed) launcher() (*launch.Launcher, error) {
	i.once.Do(func() { i.l, i.err = i.get() })
	return i.l, i.err
}

func (i *installed) connect(ctx context.Context) (*client.Client, error) {
	l, err := i.checked()
	if err != nil {
		return nil, err
	}
	return l.Connect(ctx)
}

// checked is launcher once it is known that a daemon could be started with this
// environment and configuration. They are looked at also while one runs, which
// has read its own: a mistake in them is not to lie in wait for the next start.
func (i *installed) checked() (*launch.Launcher, error) {
	l, err := i.launcher()
	if err != nil {
		return nil, err
	}
	if err := l.Check(); err != nil {
		return nil, err
	}
	_, err = config.Load(l.Layout, l.IO.Getenv)
	return l, err
}

func (i *installed) find(ctx context.Context) (*client.Client, error) {
	l, err := i.launcher()
	if err != nil {
		return nil, err
	}
	c, _, err := l.Find(ctx)
	return c, err
}

// startRoot starts banger-root, once for all that need it at the same time.
func (i *installed) startRoot(ctx context.Context, why string) error {
	return i.onceRoot(func(l *launch.Launcher) error { return l.StartRoot(ctx, why) })
}

// tryRoot is startRoot without a question.
func (i *installed) tryRoot(ctx context.Context, why string) error {
	return i.onceRoot(func(l *launch.Launcher) error { return l.TryRoot(ctx, why) })
}

func (i *installed) onceRoot(start func(*launch.Launcher) error) error {
	i.root.Lock()
	defer i.root.Unlock()
	if i.started {
		return nil
	}
	l, err := i.launcher()
	if err != nil {
		return err
	}
	err = start(l)
	i.started = err == nil
	return err
}

func (i *installed) mayHaveRoot() bool {
	l, err := i.launcher()
	return err == nil && l.MayHaveRoot()
}

func (i *installed) daemonLog() (string, error) {
	l, err := i.launcher()
	if err != nil {
		return "", err
	}
	return l.Layout.DaemonLog(), nil
}

// sshFiles are where the daemon keeps what ssh(1) must know.
func (i *installed) sshFiles() (config, note string, err error) {
	l, err := i.launcher()
	if err != nil {
		return "", "", err
	}
	return l.Layout.SSHConfig(), l.Layout.SSHNote(), nil
}

// bundleDir is where a bundle is built unless the user says otherwise: in the
// checkout that this program lies in, else with the user's data. Both are
// places where it is then looked for.
func (i *installed) bundleDir() (string, error) {
	l, err := i.launcher()
	if err != nil {
		return "", err
	}
	checkout := filepath.Dir(filepath.Dir(l.Exe))
	if _, err := os.Stat(filepath.Join(checkout, "go.mod")); err == nil {
		return filepath.Join(checkout, "runtime"), nil
	}
	return filepath.Join(l.Layout.Data, "runtime"), nil
}

// daemon is installed as systemcmd sees it.
type daemon struct{ *installed }

func (d daemon) Connect(ctx context.Context) (systemcmd.Client, error) { return d.connect(ctx) }
func (d daemon) Find(ctx context.Context) (systemcmd.Client, error)    { return d.find(ctx) }

func (d daemon) Check() error {
	_, err := d.checked()
	return err
}

func (d daemon) MayHaveRoot() bool { return d.mayHaveRoot() }

func (d daemon) Stop(ctx context.Context) error {
	l, err := d.launcher()
	if err != nil {
		return err
	}
	return l.Stop(ctx)
}

func (d daemon) Install(ctx context.Context) (string, error) {
	l, err := d.launcher()
	if err != nil {
		return "", err
	}
	return l.Install(ctx)
}

func (d daemon) Uninstall(ctx context.Context) error {
	l, err := d.launcher()
	if err != nil {
		return err
	}
	return l.Uninstall(ctx)
}
