# Completion of dora for Elvish. `dora __complete` prints one candidate per line, with a
# description behind a tab, and a number behind a colon at the end: bit 2 forbids file
# names, bit 8 asks for files with the endings that were printed.
use str

fn dora-candidates {|@words|
  var lines = [(e:dora __complete $@words 2>/dev/null | from-lines)]
  var directive = 0
  if (and (> (count $lines) 0) (str:has-prefix $lines[-1] ':')) {
    set directive = (num $lines[-1][1..])
    set lines = $lines[..-1]
  }
  if (== $directive 8) {
    put *[nomatch-ok].yml *[nomatch-ok].yaml
    put *[nomatch-ok]/
    return
  }
  for line $lines {
    put [(str:split "\t" $line)][0]
  }
}

set edit:completion:arg-completer[dora] = {|@words| dora-candidates $@words[1..] }
