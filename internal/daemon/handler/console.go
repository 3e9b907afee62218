package handler

import (
	"context"
	"net/http"

	"banger/internal/api"
	"banger/internal/vm"
)

// console joins the client's framed streams to a VM's serial console. What is
// wrong before that is an ordinary answer; the VM's end is exit code 0.
func (h *Handler) console(w http.ResponseWriter, r *http.Request) {
	var req api.VMRequest
	err := api.Decode(r, &req)
	if err == nil {
		err = api.WantsUpgrade(r, api.StreamProtocol)
	}
	var c *vm.Console
	if err == nil {
		c, err = h.VMs.AttachConsole(r.Context(), req.VM)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer c.Close()
	// Hijacked connections do not end r's context; ServeExec sees the client go.
	ctx := context.WithoutCancel(r.Context())
	conn, err := api.Upgrade(w, r, api.StreamProtocol)
	if err != nil {
		return
	}
	err = api.ServeExec(ctx, conn, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) {
		return api.ExecExit{}, c.Join(ctx, s.Stdin, s.Stdout)
	})
	if err != nil {
		h.Log.Debug("the console's client is gone", "vm", req.VM, "err", err)
	}
}
