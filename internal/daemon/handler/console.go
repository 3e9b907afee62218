package handler

import (
	"context"
	"fmt"
	"net/http"

	"banger/internal/api"
)

// console joins the client's framed streams to a VM's serial console; on stderr
// come words of ours. What is wrong before that is an ordinary answer; the end of
// the VM is exit code 0, that of the daemon the error Lost: the client goes on
// with the next one.
func (h *Handler) console(w http.ResponseWriter, r *http.Request) {
	var req api.VMRequest
	err := api.Decode(r, &req)
	if err == nil {
		err = api.WantsUpgrade(r, api.StreamProtocol)
	}
	var leave func()
	if err == nil {
		leave, err = h.Ops.Attach(api.VMConsole, req.VM)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer leave()
	c, err := h.VMs.AttachConsole(r.Context(), req.VM)
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
		ctx, cancel := h.untilEnding(ctx)
		defer cancel(nil)
		return api.ExecExit{}, c.Join(ctx, s.Stdin, s.Stdout, func(name string) {
			fmt.Fprintf(s.Stderr, "%s was started again\n", name)
		})
	})
	if err != nil {
		h.Log.Debug("the console's client is gone", "vm", req.VM, "err", err)
	}
}
