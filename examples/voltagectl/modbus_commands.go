package main

// modbusCommands are those that speak to Modbus devices.
func modbusCommands() []command {
	const address = "\n\nAn ADDRESS is space:number[:type[:order]], such as holding:100:float32:CDAB or coil:3,\nor a reference number, such as 40101:int16. Numbers count from 0, as on the wire;\nwith -base 1 from 1. A range, such as holding:0-9, is every address in it. Options\nfollow after a space: \"input:7:int16 na=0x8000\"."
	const device = "[-unit 1]"
	return []command{
		{name: "read", names: []string{"ADDRESS…"}, many: true, flags: deviceFlags + " unit base scale max-read", options: device + " [-scale F] [-base 1]", run: runModbusRead,
			brief: "reads values once",
			detail: "Reads addresses of a unit once and prints values and registers. What cannot be read\nis said for each address; then the exit code is 1." + address + `

  voltagectl modbus read -tcp 192.168.1.10 holding:100:float32 40101:int16 coil:3
  voltagectl modbus read -rtu /dev/ttyUSB0 -baud 9600 -parity none -unit 5 input:0-9
  voltagectl modbus read -tcp 192.168.1.10 -scale 0.1 -json input:7:int16`},
		{name: "write", names: []string{"ADDRESS=VALUE…"}, many: true, flags: deviceFlags + " unit base scale multiple-writes part-writes no-read-back", options: device + " [-scale F] [-no-read-back]", run: runModbusWrite,
			brief: "writes values, at once and without asking",
			detail: "Writes values of a unit in turn and prints what was there, what was written and what\nwas read back. It ends at the first that fails, with exit code 1.\n\n" +
				"It goes past the limits of points, interlocks and the journal of commands of a\nrunning engine, which may also write another value the moment after. A serial line\nthat an engine has open is locked." + address + `

  voltagectl modbus write -tcp 192.168.1.10 holding:0:int16=-50
  voltagectl modbus write -rtu /dev/ttyUSB0 -unit 5 -scale 0.1 40001=12.5 coil:0=on`},
		{name: "scan", flags: deviceFlags + " unit units probe addresses base max-read", options: "[-units 1-247 | -unit 1 -addresses RANGE]", run: runModbusScan,
			brief: "which units answer, or which addresses a unit has",
			detail: `Asks every unit for one register, one after the other; an exception is an answer too.
With -addresses it finds out which addresses a unit has: it reads them together and
splits the requests that are refused with exception 2. Nothing is ever written.
On a busy line, give the devices rest with -delay.

  voltagectl modbus scan -rtu /dev/ttyUSB0 -baud 9600
  voltagectl modbus scan -tcp 192.168.1.10 -units 1-32 -timeout 100ms -probe input:0
  voltagectl modbus scan -tcp 192.168.1.10 -unit 3 -addresses holding:0-200`},
		{name: "watch", names: []string{"ADDRESS…"}, many: true, flags: deviceFlags + " unit base scale max-read every count", options: device + " [-every 1s] [-n COUNT]", run: runModbusWatch,
			brief: "prints values as they change, until Ctrl-C",
			detail: "Reads addresses of a unit again and again and prints what changed, when, and how long\nthe reading took. Errors are lines as well; it connects again by itself." + address + `

  voltagectl modbus watch -tcp 192.168.1.10 -every 200ms input:0:float32 discrete:0-7`},
		{name: "plan", names: []string{"FILE"}, flags: "channel profile driver", options: "[-channel ID | -profile [-driver NAME]]", run: runModbusPlan,
			brief: "what an engine would ask the devices of a site for",
			detail: `Reads a site file, or with -profile a device profile, and prints the requests of each
scan class of its channels. Nothing is sent.

  voltagectl modbus plan site.yaml -channel 1001
  voltagectl modbus plan -profile meter.yaml -driver modbus-rtu`},
	}
}

// profileCommands are those for device profiles.
func profileCommands() []command {
	return []command{
		{name: "lint", names: []string{"FILE…"}, many: true, flags: "strict", options: "[-strict]", run: runProfileLint,
			brief: "what is wrong, or probably wrong, with device profiles",
			detail: `Checks device profiles: errors keep an engine from starting, warnings are what is
allowed and probably wrong. The exit code is 1 where there are errors, with -strict
also where there are warnings.

  voltagectl profile lint profiles/*.yaml`},
	}
}
