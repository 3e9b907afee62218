package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/layout"
	"banger/internal/sshconfig"
	"banger/internal/store"
)

// loginUser is who ssh(1) logs in as, unless it is told otherwise.
const loginUser = "root"

// sshHosts keeps the files by which ssh(1) knows the VMs. They are made of the
// records alone: what a daemon that was killed did not write, the next one does.
type sshHosts struct {
	store  *store.Store
	layout layout.Layout
	banger string // path of the command line program
	log    *slog.Logger
	mu     sync.Mutex // one writer at a time
}

func (h *sshHosts) installation() sshconfig.Installation {
	proxy := []string{"/usr/bin/env", "BANGER_STATE_DIR=" + h.layout.State, "BANGER_RUN_DIR=" + h.layout.Run}
	if file := os.Getenv("BANGER_CONFIG"); file != "" {
		proxy = append(proxy, "BANGER_CONFIG="+file)
	}
	return sshconfig.Installation{
		Proxy: append(proxy, h.banger, "vm", "ssh-proxy"), User: loginUser,
		Identity: h.layout.Key(), KnownHosts: h.layout.SSHKnownHosts(),
	}
}

func sshHost(r banger.Record) (sshconfig.Host, error) {
	key, err := ssh.ParsePrivateKey([]byte(r.HostKey))
	if err != nil {
		return sshconfig.Host{}, fmt.Errorf("host key of %s: %w", r.Spec.Name, err)
	}
	return sshconfig.Host{ID: r.ID, Name: r.Spec.Name, PublicKey: guest.AuthorizedKey(key.PublicKey())}, nil
}

// write brings the files in line with the records. It is called after each
// change of them; what fails is logged, since no VM depends on it.
func (h *sshHosts) write(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	config, known, err := h.files(ctx)
	if err == nil {
		err = os.MkdirAll(h.layout.SSHDir(), 0o700)
	}
	if err == nil { // the keys first: a host whose key is missing cannot be used
		err = replaceChanged(h.layout.SSHKnownHosts(), known)
	}
	if err == nil {
		err = replaceChanged(h.layout.SSHConfig(), config)
	}
	if err != nil {
		h.log.Warn("write what ssh knows of the VMs", "err", err)
	}
}

func (h *sshHosts) files(ctx context.Context) (config, known string, err error) {
	records, err := h.store.VMs(ctx)
	if err != nil {
		return "", "", err
	}
	var hosts []sshconfig.Host
	for _, r := range records {
		one, err := sshHost(r)
		if err != nil {
			h.log.Warn("ssh configuration of a VM", "vm", r.ID, "err", err)
			continue
		}
		hosts = append(hosts, one)
	}
	config, known, errs := sshconfig.Files(h.installation(), hosts)
	for _, err := range errs {
		h.log.Warn("ssh configuration of a VM", "err", err)
	}
	return config, known, nil
}

func replaceChanged(file, content string) error {
	b, err := os.ReadFile(file)
	if err == nil && string(b) == content {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return sshconfig.Replace(file, content, 0o600)
}

// Show implements handler.SSHConfig.
func (h *sshHosts) Show(ctx context.Context, ref string) (api.SSHConfigInfo, error) {
	info := api.SSHConfigInfo{File: h.layout.SSHConfig(), KnownHosts: h.layout.SSHKnownHosts()}
	var err error
	if ref == "" {
		info.Config, _, err = h.files(ctx)
		return info, err
	}
	r, err := h.store.FindVM(ctx, ref)
	if err != nil {
		return info, err
	}
	one, err := sshHost(r)
	if err != nil {
		return info, err
	}
	info.Config, err = sshconfig.Block(h.installation(), one)
	return info, err
}

// A namedStore tells when a VM comes, goes or gets another name.
type namedStore struct {
	*store.Store
	changed func(context.Context)
}

func (s namedStore) CreateVM(ctx context.Context, r banger.Record, lease func([]banger.Lease) (banger.Lease, error)) (banger.Record, error) {
	made, err := s.Store.CreateVM(ctx, r, lease)
	if err == nil {
		s.changed(context.WithoutCancel(ctx))
	}
	return made, err
}

func (s namedStore) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (banger.Record, error) {
	renamed := false
	r, err := s.Store.UpdateVM(ctx, id, func(r *banger.Record) error {
		before := r.Spec.Name
		err := change(r)
		renamed = r.Spec.Name != before
		return err
	})
	if err == nil && renamed {
		s.changed(context.WithoutCancel(ctx))
	}
	return r, err
}

func (s namedStore) DeleteVM(ctx context.Context, id banger.VMID) error {
	err := s.Store.DeleteVM(ctx, id)
	if err == nil {
		s.changed(context.WithoutCancel(ctx))
	}
	return err
}

// beside is the path of a program that was installed together with exe.
func beside(exe, name string) string { return filepath.Join(filepath.Dir(exe), name) }
