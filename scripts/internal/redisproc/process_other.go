//go:build !linux

package redisproc

import "syscall"

func childAttr(syscall.Signal) (*syscall.SysProcAttr, error) { return nil, ErrUnsupported }

func signalGroup(int, syscall.Signal) error { return ErrUnsupported }

// Lock is not supported on this system.
func Lock(uintptr) (bool, error) { return false, ErrUnsupported }
