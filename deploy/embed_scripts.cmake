# Writes every Lua script as a C string literal: SCRIPT(name, "text") rows for an X-macro include.
#   OUT      the file to write
#   SCRIPTS  the .lua files, separated by ;
set(text "")
foreach(path ${SCRIPTS})
  get_filename_component(name ${path} NAME_WE)
  file(READ ${path} body)
  string(REPLACE "\\" "\\\\" body "${body}")
  string(REPLACE "\"" "\\\"" body "${body}")
  string(REPLACE "\n" "\\n\"\n    \"" body "${body}")
  string(APPEND text "SCRIPT(${name},\n    \"${body}\")\n")
endforeach()
file(WRITE ${OUT} "${text}")
