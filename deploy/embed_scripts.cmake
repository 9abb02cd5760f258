# Writes every Lua script as a C string: SCRIPT(name, "text") rows for an X-macro include. The bytes
# go through hex, because CMake's own lists would break at ';' and '[' in the text.
#   OUT      the file to write
#   SCRIPTS  the .lua files, separated by ;
set(text "")
foreach(path ${SCRIPTS})
  get_filename_component(name ${path} NAME_WE)
  file(READ ${path} body HEX)
  string(REGEX REPLACE "(..)" "\\\\x\\1" body "${body}")
  # A row a line of the script: \x0a ends it.
  string(REPLACE "\\x0a" "\\x0a\"\n    \"" body "${body}")
  string(APPEND text "SCRIPT(${name},\n    \"${body}\")\n")
endforeach()
file(WRITE ${OUT} "${text}")
