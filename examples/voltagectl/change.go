package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/voltageems/voltage/scripts"
)

func runVerify(ctx context.Context, c *call) error {
	if c.redis == "" {
		return c.verify(ctx, nil)
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error { return c.verify(ctx, p) })
}

// verify checks one script, or all of a folder, a file or this build. Every one
// is tried; the errors come together.
func (c *call) verify(ctx context.Context, p *scripts.Plane) error {
	list, err := c.candidates(ctx, p)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range list {
		if err := c.verifyOne(ctx, p, s); err != nil {
			fmt.Fprintf(c.out, "%s %s: refused\n", s.Name, s.Version)
			errs = append(errs, err)
			continue
		}
		where := "in this process"
		if p != nil {
			where = "in this process and on the store"
		}
		fmt.Fprintf(c.out, "%s %s: ok, tested %s\n", s.Name, s.Version, where)
	}
	return errors.Join(errs...)
}

// candidates are the scripts to verify.
func (c *call) candidates(ctx context.Context, p *scripts.Plane) ([]scripts.Script, error) {
	if len(c.names) == 1 {
		s, ok, err := c.chosen(ctx, p, c.names[0])
		if !ok && err == nil {
			s, err = own(c.names[0])
		}
		return []scripts.Script{s}, err
	}
	switch err := c.exclusive("folder", "file", "version"); {
	case err != nil:
		return nil, err
	case c.folder != "":
		return composeFolder(c.folder)
	case c.file != "":
		s, err := readScript(c.file)
		return []scripts.Script{s}, err
	case c.version != "":
		return nil, usageError("-version is that of one script: NAME is missing")
	}
	return scripts.Scripts()
}

func (c *call) verifyOne(ctx context.Context, p *scripts.Plane, s scripts.Script) error {
	if err := checkHeader(s); err != nil {
		return err
	}
	if mine, err := own(s.Name); err == nil {
		if err := checkNumber(s, mine.Version, "this build's"); err != nil {
			return err
		}
	}
	if err := scripts.CheckScript(ctx, s); err != nil || p == nil {
		return err
	}
	st, err := p.ScriptState(ctx, s.Name)
	if err != nil {
		return err
	}
	if st.Active != "" {
		if err := checkNumber(s, st.Active, "the active one"); err != nil {
			return err
		}
	}
	return p.VerifyScript(ctx, s)
}

// checkHeader refuses a script of which nobody could know how it is called.
func checkHeader(s scripts.Script) error {
	m, err := s.Manifest()
	if err != nil {
		return err
	}
	var missing []string
	for what, is := range map[string]bool{"a purpose in the first line": m.Purpose != "", "@form": len(m.Forms) > 0,
		"@reply": m.Reply != "", "@code": len(m.Codes) > 0, "@keys": len(m.Keys) > 0} {
		if !is {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s.lua: the header has no %s", s.Name, strings.Join(missing, ", no "))
	}
	return nil
}

// checkNumber refuses another text with the same number, of which engines could
// not tell which is the newer one.
func checkNumber(s scripts.Script, other, whose string) error {
	if s.Version == other {
		return nil
	}
	order, err := scripts.CompareVersions(s.Version, other)
	if err == nil && order == 0 {
		err = fmt.Errorf("%s.lua: the text differs from %s, %s, and the number is the same: raise @version", s.Name, whose, other)
	}
	return err
}

func runActivate(ctx context.Context, c *call) error {
	if err := c.exclusive("canary", "percent"); err != nil {
		return err
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		s, ok, err := c.chosen(ctx, p, c.names[0])
		if !ok && err == nil {
			s, err = own(c.names[0])
		}
		if err != nil {
			return err
		}
		channels, some, err := c.some(ctx, p, c.canary, "canary")
		if err != nil {
			return err
		}
		if some {
			if err := p.CanaryScript(ctx, s, channels, c.change()); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s %s is on trial for %s: %s\n", s.Name, s.Version, counted(len(channels), "channel"), strings.Join(channels, ", "))
			return nil
		}
		before, err := p.ScriptState(ctx, s.Name)
		if err != nil {
			return err
		}
		if before.Active == s.Version {
			fmt.Fprintf(c.out, "%s %s is active already\n", s.Name, s.Version)
			return nil
		}
		if err := p.ActivateScript(ctx, s, c.change()); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s %s is active; before: %s\n", s.Name, s.Version, or(before.Active, "none"))
		return nil
	})
}

// some returns the channels that a flag or -percent names, and whether one does.
func (c *call) some(ctx context.Context, p *scripts.Plane, text, flag string) (channels []string, ok bool, err error) {
	switch {
	case c.given(flag):
		if channels = list(text); len(channels) == 0 {
			return nil, false, usageError("-%s names no channel", flag)
		}
		return channels, true, nil
	case c.given("percent"):
		if channels, err = p.Share(ctx, c.percent); err == nil && len(channels) == 0 {
			err = errors.New("the site has no channels")
		}
		return channels, true, err
	}
	return nil, false, nil
}

func runRollback(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		before, err := p.ScriptState(ctx, c.names[0])
		if err != nil {
			return err
		}
		version, err := p.RollbackScript(ctx, c.names[0], c.change())
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s %s is active again; %s is refused from now on\n", c.names[0], version, before.Active)
		return nil
	})
}

func runCanaryEnd(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		st, err := p.ScriptState(ctx, c.names[0])
		if err != nil {
			return err
		}
		if err := p.EndCanary(ctx, c.names[0], c.change()); err != nil {
			return err
		}
		if len(st.Canary) == 0 {
			fmt.Fprintf(c.out, "%s: nothing was on trial\n", st.Name)
			return nil
		}
		fmt.Fprintf(c.out, "%s: the trial is over; %s goes on for channel %s\n", st.Name, st.Active, strings.Join(sortedKeys(st.Canary), ", "))
		return nil
	})
}

func runSync(ctx context.Context, c *call) error {
	if err := c.exclusive("channels", "percent"); err != nil {
		return err
	}
	var mode scripts.SyncMode
	if len(c.names) == 1 {
		var err error
		if mode, err = scripts.ParseSyncMode(c.names[0]); err != nil || c.names[0] == "" {
			return usageError("%q: want lua, direct or shadow", c.names[0])
		}
	} else if c.given("channels") || c.given("percent") {
		return usageError("MODE is missing: lua, direct or shadow")
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		if mode != "" {
			channels, _, err := c.some(ctx, p, c.channels, "channels")
			if err != nil {
				return err
			}
			if err := p.SetSyncMode(ctx, mode, channels, c.change()); err != nil {
				return err
			}
		}
		modes, err := p.SyncModes(ctx)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(modes)
		}
		rows := []string{"CHANNEL\tMODE"}
		for _, channel := range sortedKeys(modes) {
			if channel != "*" {
				rows = append(rows, channel+"\t"+string(modes[channel]))
			}
		}
		c.table(append(rows, "all others\t"+string(modes["*"]))...)
		return nil
	})
}
