// Eye-dome lighting: what lies behind its neighbours is darker (Boucheny, 2009).
precision highp float;

uniform sampler2D picture;
uniform sampler2D depths;
uniform vec2 size_px;
uniform vec2 planes; // near, far
uniform float strength;
uniform float reach_px;

in vec2 at;
out vec4 color;

float log_depth(vec2 uv) {
  float ndc = 2.0 * texture(depths, uv).x - 1.0;
  return log2(2.0 * planes.x * planes.y / (planes.y + planes.x - ndc * (planes.y - planes.x)));
}

const float GAP = 0.01;     // octaves: what is so far behind is another surface
const float MOST = 1.1;     // of the darkening: outlines are dark, not black
const float SURROUNDED = 6.0; // of eight neighbours

void main() {
  vec4 seen = texture(picture, at);
  float here = log_depth(at);
  float behind = 0.0;
  vec4 nearer = vec4(0.0);
  for (int k = 0; k < 8; k++) {
    float angle = 0.7853981633974483 * float(k);
    vec2 there = at + reach_px * vec2(cos(angle), sin(angle)) / size_px;
    vec4 neighbour = texture(picture, there);
    if (neighbour.a == 0.0) continue;
    float ahead = here - log_depth(there);
    behind += max(0.0, ahead);
    if (ahead > GAP) nearer += neighbour;
  }
  // A hole between points, through which their back is seen, takes the colour around it.
  if (strength > 0.0 && nearer.a >= SURROUNDED) color = nearer / nearer.a;
  else color = vec4(seen.rgb * exp(-min(strength * behind / 8.0, MOST)), seen.a);
}
