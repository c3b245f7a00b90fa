// Every corner of every face, without an index: corners know their face.
precision highp float;
precision highp int;
precision highp usampler2D;

uniform usampler2D corners; // the position of each
uniform sampler2D moved;
uniform mat4 view; // model and view
uniform mat4 projection;
uniform vec4 window; // centre of the picture's part that is looked at, and how much it is enlarged

flat out uint face;
out float depth;

const int ROW = 2048;

void main() {
  int place = int(texelFetch(corners, ivec2(gl_VertexID % ROW, gl_VertexID / ROW), 0).r);
  vec4 at = view * vec4(texelFetch(moved, ivec2(place % ROW, place / ROW), 0).xyz, 1.0);
  vec4 clip = projection * at;
  face = uint(gl_VertexID / 3);
  depth = -at.z;
  gl_Position = vec4((clip.xy - window.xy * clip.w) * window.zw, clip.zw);
}
