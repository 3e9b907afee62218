// Package handler serves the API: decode, call one method, encode. It decides
// nothing about VMs.
package handler

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"

	"banger"
	"banger/internal/api"
	"banger/internal/op"
	"banger/internal/vm"
)

// Images is the catalogue of images.
type Images interface {
	List(ctx context.Context) ([]banger.Image, error)
	Show(ctx context.Context, ref string) (banger.Image, error)
	Delete(ctx context.Context, ref string) (banger.Image, error)
}

// Bundles makes and checks runtime bundles. "" is the one that is found.
type Bundles interface {
	Find(dir string) (banger.Bundle, error)
	Build(ctx context.Context, dir string, rep vm.Reporter) (banger.Bundle, error)
	Verify(ctx context.Context, dir string, rep vm.Reporter) (banger.Bundle, error)
}

// Daemon is the daemon itself.
type Daemon interface {
	Status(ctx context.Context) (api.Status, error)
	Doctor(ctx context.Context, r api.DoctorRequest) (api.DoctorReport, error)
	Network(ctx context.Context) (api.NetworkInfo, error)
	// MoveNetwork gives the installation another subnet while no VM runs.
	MoveNetwork(ctx context.Context, subnet netip.Prefix) (api.NetworkInfo, error)
	// Stop ends the daemon soon. With replace it is refused (Busy) while
	// something with a client is under way: an operation, a command's streams.
	Stop(replace bool) error
}

// SSHConfig is what ssh(1) must know of the VM that ref names, or of all ("").
type SSHConfig interface {
	Show(ctx context.Context, ref string) (api.SSHConfigInfo, error)
}

// A Handler is the API's server side.
type Handler struct {
	VMs     *vm.Manager
	Ops     *op.Manager
	Images  Images
	Bundles Bundles
	Daemon  Daemon
	SSH     SSHConfig
	Log     *slog.Logger
}

// Mux returns what serves every path of the API.
func (h *Handler) Mux() http.Handler {
	mux := http.NewServeMux()
	post := func(name string, f http.HandlerFunc) { mux.HandleFunc("POST "+api.Prefix+name, f) }

	post(api.VMCreate, operation(h, createVM))
	post(api.VMStart, operation(h, startVM))
	post(api.VMStop, operation(h, stopVM))
	post(api.VMRestart, operation(h, restartVM))
	post(api.VMKill, operation(h, killVM))
	post(api.VMReset, operation(h, resetVM))
	post(api.VMDelete, operation(h, deleteVM))
	post(api.VMWait, operation(h, waitVM))
	post(api.VMSet, answer(h, h.setVM))
	post(api.VMList, answer(h, h.listVMs))
	post(api.VMShow, answer(h, h.showVM))
	post(api.VMAccess, answer(h, h.access))
	post(api.VMExec, h.exec)
	post(api.VMCopy, h.copy)
	post(api.VMConsole, h.console)
	post(api.VMLogs, h.logs)
	post(api.SSHConfig, answer(h, h.sshConfig))
	post(api.ImageList, answer(h, h.listImages))
	post(api.ImageShow, answer(h, h.showImage))
	post(api.ImageDelete, answer(h, h.deleteImage))
	post(api.BundleBuild, operation(h, buildBundle))
	post(api.BundleVerify, operation(h, verifyBundle))
	post(api.BundleShow, answer(h, h.showBundle))
	post(api.NetworkShow, answer(h, h.showNetwork))
	post(api.NetworkMove, answer(h, h.moveNetwork))
	post(api.DaemonStatus, answer(h, h.status))
	post(api.DaemonStop, answer(h, h.stopDaemon))
	post(api.Doctor, answer(h, h.doctor))
	post(api.OpCancel, answer(h, h.cancelOp))
	post(api.OpList, answer(h, h.listOps))
	mux.HandleFunc("GET "+api.Prefix+"op/{id}/events", h.events)
	mux.HandleFunc("GET "+api.Prefix+"events", h.vmEvents)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		api.WriteError(w, banger.Errorf(banger.Invalid, "no operation %s %q in API version %d", r.Method, r.URL.Path, api.Version).
			WithRemedy("banger version shows what client and daemon speak"))
	})
	return mux
}

// None is a request without fields.
type none struct{}

// answer serves an operation that ends with its request.
func answer[Req, Resp any](h *Handler, f func(context.Context, Req) (Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		err := api.Decode(r, &req)
		if err == nil {
			var resp Resp
			if resp, err = f(r.Context(), req); err == nil {
				api.WriteJSON(w, resp)
				return
			}
		}
		h.fail(w, r, err)
	}
}

// A task is what an operation does once its request was read: what it is done
// to, for people, and the work itself.
type task struct {
	subject string
	work    func(ctx context.Context, rep *op.Reporter) (any, error)
}

// operation serves an operation that belongs to the daemon and outlives its
// request. A request that is wrong is refused before an operation is begun.
func operation[Req any](h *Handler, f func(h *Handler, req Req) (task, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		err := api.Decode(r, &req)
		if err == nil {
			var t task
			if t, err = f(h, req); err == nil {
				var id string
				if id, err = h.Ops.Start(r.URL.Path[len(api.Prefix):], t.subject, t.work); err == nil {
					api.WriteJSON(w, api.OpStarted{Op: id})
					return
				}
			}
		}
		h.fail(w, r, err)
	}
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if banger.CodeOf(err) == banger.Internal {
		h.Log.Error("request failed", "path", r.URL.Path, "err", err)
	}
	api.WriteError(w, err)
}

func (h *Handler) status(ctx context.Context, _ none) (api.Status, error) {
	return h.Daemon.Status(ctx)
}

func (h *Handler) doctor(ctx context.Context, req api.DoctorRequest) (api.DoctorReport, error) {
	if err := checkDir(req.Bundle); err != nil {
		return api.DoctorReport{}, err
	}
	return h.Daemon.Doctor(ctx, req)
}

func (h *Handler) stopDaemon(_ context.Context, req api.StopDaemonRequest) (none, error) {
	return none{}, h.Daemon.Stop(req.Replace)
}

func (h *Handler) showNetwork(ctx context.Context, _ none) (api.NetworkInfo, error) {
	return h.Daemon.Network(ctx)
}

func (h *Handler) moveNetwork(ctx context.Context, req api.NetworkMoveRequest) (api.NetworkInfo, error) {
	p, err := netip.ParsePrefix(req.Subnet)
	if err != nil {
		return api.NetworkInfo{}, banger.Errorf(banger.Invalid, "%q is no subnet", req.Subnet).WithRemedy("give its first address and its length, as 10.77.0.0/20")
	}
	return h.Daemon.MoveNetwork(ctx, p)
}

func (h *Handler) sshConfig(ctx context.Context, req api.SSHConfigRequest) (api.SSHConfigInfo, error) {
	return h.SSH.Show(ctx, req.VM)
}

func (h *Handler) listImages(ctx context.Context, _ none) ([]banger.Image, error) {
	return h.Images.List(ctx)
}

func (h *Handler) showImage(ctx context.Context, req api.ImageRequest) (banger.Image, error) {
	return h.Images.Show(ctx, req.Image)
}

func (h *Handler) deleteImage(ctx context.Context, req api.ImageRequest) (banger.Image, error) {
	return h.Images.Delete(ctx, req.Image)
}

func buildBundle(h *Handler, req api.BundleBuildRequest) (task, error) {
	if err := checkDir(req.Dir); err != nil {
		return task{}, err
	}
	return task{req.Dir, func(ctx context.Context, rep *op.Reporter) (any, error) {
		return bundleInfo(h.Bundles.Build(ctx, req.Dir, rep))
	}}, nil
}

func verifyBundle(h *Handler, req api.BundleRequest) (task, error) {
	if err := checkDir(req.Dir); err != nil {
		return task{}, err
	}
	return task{req.Dir, func(ctx context.Context, rep *op.Reporter) (any, error) {
		return bundleInfo(h.Bundles.Verify(ctx, req.Dir, rep))
	}}, nil
}

// checkDir refuses a directory that means another one to the daemon than to
// its client. "" is the one that is searched for.
func checkDir(dir string) error {
	if dir != "" && !filepath.IsAbs(dir) {
		return banger.Errorf(banger.Invalid, "bundle directory %q is not absolute", dir)
	}
	return nil
}

func (h *Handler) showBundle(_ context.Context, req api.BundleRequest) (api.BundleInfo, error) {
	if err := checkDir(req.Dir); err != nil {
		return api.BundleInfo{}, err
	}
	return bundleInfo(h.Bundles.Find(req.Dir))
}

func bundleInfo(b banger.Bundle, err error) (api.BundleInfo, error) {
	if err != nil {
		return api.BundleInfo{}, err
	}
	manifest, err := json.Marshal(b)
	return api.BundleInfo{Dir: b.Dir, Manifest: manifest}, err
}
