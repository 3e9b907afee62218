package client

import (
	"context"
	"io"

	"banger"
	"banger/internal/api"
)

// CreateVM makes a VM and, unless the request says otherwise, starts it.
func (c *Client) CreateVM(ctx context.Context, r api.CreateRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMCreate, r)
}

func (c *Client) StartVM(ctx context.Context, r api.VMRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMStart, r)
}

func (c *Client) StopVM(ctx context.Context, r api.StopRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMStop, r)
}

func (c *Client) RestartVM(ctx context.Context, r api.StopRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMRestart, r)
}

func (c *Client) KillVM(ctx context.Context, r api.VMRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMKill, r)
}

func (c *Client) ResetVM(ctx context.Context, r api.VMRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMReset, r)
}

// DeleteVM's result is the VM as it last was.
func (c *Client) DeleteVM(ctx context.Context, r api.DeleteRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMDelete, r)
}

func (c *Client) WaitVM(ctx context.Context, r api.WaitRequest) (*Op[banger.VM], error) {
	return start[banger.VM](ctx, c, api.VMWait, r)
}

func (c *Client) SetVM(ctx context.Context, r api.SetRequest) (banger.VM, error) {
	return call[banger.VM](ctx, c, api.VMSet, r)
}

func (c *Client) ListVMs(ctx context.Context) ([]banger.VM, error) {
	return call[[]banger.VM](ctx, c, api.VMList, none{})
}

func (c *Client) ShowVM(ctx context.Context, r api.VMRequest) (banger.VM, error) {
	return call[banger.VM](ctx, c, api.VMShow, r)
}

// AccessVM tells what ssh(1) needs to reach a VM.
func (c *Client) AccessVM(ctx context.Context, r api.VMRequest) (api.Access, error) {
	return call[api.Access](ctx, c, api.VMAccess, r)
}

// SSHConfig tells what ssh(1) must know of one VM, or of all.
func (c *Client) SSHConfig(ctx context.Context, r api.SSHConfigRequest) (api.SSHConfigInfo, error) {
	return call[api.SSHConfigInfo](ctx, c, api.SSHConfig, r)
}

// LogsVM copies a VM's log to w until its end, or with Follow until ctx ends.
// The bytes are a guest's: a terminal is not to get them unescaped.
func (c *Client) LogsVM(ctx context.Context, r api.LogsRequest, w io.Writer) error {
	req, err := c.newRequest(ctx, api.VMLogs, r)
	if err != nil {
		return err
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	to := &output{w: w}
	if _, err := io.Copy(to, resp.Body); err != nil && to.err == nil {
		return lost(ctx, err)
	}
	return to.err
}

func (c *Client) ListImages(ctx context.Context) ([]banger.Image, error) {
	return call[[]banger.Image](ctx, c, api.ImageList, none{})
}

func (c *Client) ShowImage(ctx context.Context, r api.ImageRequest) (banger.Image, error) {
	return call[banger.Image](ctx, c, api.ImageShow, r)
}

// DeleteImage's result is the image as it last was.
func (c *Client) DeleteImage(ctx context.Context, r api.ImageRequest) (banger.Image, error) {
	return call[banger.Image](ctx, c, api.ImageDelete, r)
}

func (c *Client) BuildBundle(ctx context.Context, r api.BundleBuildRequest) (*Op[api.BundleInfo], error) {
	return start[api.BundleInfo](ctx, c, api.BundleBuild, r)
}

func (c *Client) ShowBundle(ctx context.Context, r api.BundleRequest) (api.BundleInfo, error) {
	return call[api.BundleInfo](ctx, c, api.BundleShow, r)
}

func (c *Client) VerifyBundle(ctx context.Context, r api.BundleRequest) (*Op[api.BundleInfo], error) {
	return start[api.BundleInfo](ctx, c, api.BundleVerify, r)
}

func (c *Client) ShowNetwork(ctx context.Context) (api.NetworkInfo, error) {
	return call[api.NetworkInfo](ctx, c, api.NetworkShow, none{})
}

// MoveNetwork gives the installation another subnet; no VM may run.
func (c *Client) MoveNetwork(ctx context.Context, r api.NetworkMoveRequest) (api.NetworkInfo, error) {
	return call[api.NetworkInfo](ctx, c, api.NetworkMove, r)
}

func (c *Client) DaemonStatus(ctx context.Context) (api.Status, error) {
	return call[api.Status](ctx, c, api.DaemonStatus, none{})
}

// StopDaemon returns when the daemon has agreed to end, not when it has ended:
// its lock says that (api.ReadLock).
func (c *Client) StopDaemon(ctx context.Context, r api.StopDaemonRequest) error {
	_, err := call[none](ctx, c, api.DaemonStop, r)
	return err
}

func (c *Client) Doctor(ctx context.Context, r api.DoctorRequest) (api.DoctorReport, error) {
	return call[api.DoctorReport](ctx, c, api.Doctor, r)
}

func (c *Client) ListOps(ctx context.Context) ([]api.OpInfo, error) {
	return call[[]api.OpInfo](ctx, c, api.OpList, none{})
}

// CancelOp asks an operation to end; its last event says how it did.
func (c *Client) CancelOp(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, api.OpCancel, api.OpRequest{Op: id})
	return err
}

// none is the empty object.
type none struct{}

// An output remembers that writing, not reading, went wrong.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.err = err
	}
	return n, err
}
