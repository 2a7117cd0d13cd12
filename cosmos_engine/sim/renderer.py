"""Render passes of a MuJoCo table-top: rgb, metric depth and instance ids from one camera."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import MAX_LIGHTS, Appearance, Light, Material
from cosmos_engine.sim.colors import COLORS, light_rgb
from cosmos_engine.sim.environment import CameraFrame
from cosmos_engine.sim.look import MAX_DISTRACTORS, CameraOffset, Distractor
from cosmos_engine.sim.textures import cube_texture, flat_texture

SHADOW_MAP_PX = 768
"""All passes of a camera at 128 x 128 take 15 ms of one core (Mesa) with a shadow and 5 ms without."""
SLICES, STACKS, QUADS = 20, 10, 2
"""Facets of round shapes and of box faces: MuJoCo's 28, 16 and 4 cost half as much again and look the same here."""
COLOR_SAMPLES = 0
"""Mesa turns one sample into four, which costs half as much again."""
SHADOW_REACH_M = 0.9
"""Half the side of the square around the model's centre in which shadows fall: 2.3 mm a texel."""
FLAT_TEXTURE_M = 1.0
"""Length that a flat texture covers before it repeats: the same everywhere, so that a pattern is as fine on a wall."""
LIGHT_DISTANCE_M = 3.0
"""From the model's centre back along the light's direction: outside everything that casts shadows."""
DISTRACTOR_GEOMS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "can": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "ball": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}


class Renderer:
    """Draw a model's cameras off screen, in the look that was set last.

    Owns one OpenGL context. It writes the looks into the model (materials, textures, lights, cameras' poses, visual
    quality), so a model belongs to one renderer at a time; distractors are drawn beside the model and are not in it.
    The model names its materials, textures and lights as the appearance does: material and texture "table", "wall",
    "floor", "robot", "robot_dark" and one for each object, lights "light0" to "light2". Close it, or use it as a
    context manager.

    Args:
        model: compiled model; not recompiled by anything here.
        height, width: image size in pixels.

    Raises:
        InputError: no off-screen OpenGL on this machine; names what to install.
    """

    def __init__(self, model: mujoco.MjModel, *, height: int, width: int) -> None:
        self._model = model
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        model.vis.map.shadowclip = SHADOW_REACH_M / model.stat.extent
        quality = model.vis.quality
        quality.shadowsize, quality.offsamples = SHADOW_MAP_PX, COLOR_SAMPLES
        quality.numslices, quality.numstacks, quality.numquads = SLICES, STACKS, QUADS
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + MAX_DISTRACTORS + 16)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._gl: Any = None
        self._gl, self._context = _open_context(model, height, width)
        self._uploaded: dict[str, Material] = {}
        self._distractors: tuple[Distractor, ...] = ()
        self._usual_poses = model.cam_pos.copy(), model.cam_quat.copy()

    def set_appearance(self, appearance: Appearance) -> None:
        """Make every later render show this look, whatever was set before.

        Raises:
            ValueError: the model has no material, texture or light of a name that the appearance has.
        """
        self._gl.make_current()
        for name, material in appearance.materials().items():
            if self._uploaded.get(name) != material:
                self._set_material(name, material)
                self._uploaded[name] = material
        tint = np.array(light_rgb(appearance.lights[0].temperature_k))
        headlight = self._model.vis.headlight
        headlight.active = 1
        headlight.ambient = appearance.ambient * tint
        headlight.diffuse = headlight.specular = np.zeros(3)
        for index in range(MAX_LIGHTS):
            self._set_light(index, appearance.lights[index] if index < len(appearance.lights) else None)

    def set_camera_offset(self, camera_name: str, offset: CameraOffset) -> None:
        """Move a camera that is fixed to the world away from its usual pose, whatever its offset was before.

        Raises:
            InputError: unknown camera; names the nearest.
        """
        camera_id = self._camera_id(camera_name)
        position_m, quat_wxyz = (usual[camera_id] for usual in self._usual_poses)
        if offset != CameraOffset():  # else the usual pose to the last bit
            turn_rad = np.array(offset.turn_rad)
            turn_wxyz, turned_wxyz = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(4)
            mujoco.mju_quatIntegrate(turn_wxyz, turn_rad, 1.0)
            mujoco.mju_mulQuat(turned_wxyz, turn_wxyz, quat_wxyz)
            position_m, quat_wxyz = position_m + offset.move_m, turned_wxyz
        self._model.cam_pos[camera_id], self._model.cam_quat[camera_id] = position_m, quat_wxyz

    def set_distractors(self, distractors: tuple[Distractor, ...]) -> None:
        """Show these objects on the plane z = 0 in every later render, and no others."""
        self._distractors = distractors

    def render(self, data: mujoco.MjData, camera_name: str, geom_instance: UInt16[np.ndarray, " geoms"]) -> CameraFrame:
        """Return all passes of one camera, top row first.

        `mj_forward` must have run on `data`; its lights and cameras are brought up to date here. Pixel centres lie at
        whole coordinates (OpenCV's convention), so the principal point is ((width - 1) / 2, (height - 1) / 2).

        Args:
            data: the state to draw.
            camera_name: a camera of the model.
            geom_instance: instance id of each geom of the model, then of each distractor.

        Raises:
            InputError: unknown camera; names the nearest.
        """
        camera_id = self._update_scene(data, camera_name)
        rgb = self._draw_color()
        depth_m, instance = self._draw_geometry(geom_instance)
        world_from_camera = np.eye(4)
        world_from_camera[:3, :3] = data.cam_xmat[camera_id].reshape(3, 3) * [1, -1, -1]  # MuJoCo: y up, z backward
        world_from_camera[:3, 3] = data.cam_xpos[camera_id]
        return CameraFrame(
            rgb=rgb,
            depth_m=depth_m,
            instance=instance,
            intrinsics_px=self._intrinsics_px(camera_id),
            world_from_camera=world_from_camera,
        )

    def rgb(self, data: mujoco.MjData, camera_name: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return only the colour image of `render`, bit for bit, without the cost of the other passes."""
        self._update_scene(data, camera_name)
        return self._draw_color()

    def close(self) -> None:
        """Free the OpenGL context; safe to call twice."""
        if self._gl is not None:
            self._model.cam_pos[:], self._model.cam_quat[:] = self._usual_poses
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set_material(self, name: str, material: Material) -> None:
        model = self._model
        material_id = self._id(mujoco.mjtObj.mjOBJ_MATERIAL, name)
        texture_id = self._id(mujoco.mjtObj.mjOBJ_TEXTURE, name)
        model.mat_rgba[material_id] = 1
        model.mat_specular[material_id] = material.specular
        model.mat_shininess[material_id] = material.shininess
        model.mat_emission[material_id] = model.mat_reflectance[material_id] = 0
        if model.tex_type[texture_id] == mujoco.mjtTexture.mjTEXTURE_CUBE:
            paint = cube_texture
        else:
            paint = flat_texture
            model.mat_texuniform[material_id] = True
            model.mat_texrepeat[material_id] = 2 / FLAT_TEXTURE_M  # MuJoCo counts repeats over two metres
        color, accent = material.colors()
        texels = paint(
            material.family,
            color,
            accent,
            scale=material.scale,
            seed=material.seed,
            size=int(model.tex_width[texture_id]),
        )
        start = model.tex_adr[texture_id]
        model.tex_data[start : start + texels.size] = texels.ravel()
        mujoco.mjr_uploadTexture(model, self._context, texture_id)

    def _set_light(self, index: int, light: Light | None) -> None:
        model = self._model
        light_id = self._id(mujoco.mjtObj.mjOBJ_LIGHT, f"light{index}")
        model.light_active[light_id] = light is not None
        if light is None:
            return
        direction = np.array(light.direction) / np.linalg.norm(light.direction)
        model.light_dir[light_id] = direction
        model.light_pos[light_id] = model.stat.center - LIGHT_DISTANCE_M * direction
        model.light_diffuse[light_id] = light.intensity * np.array(light_rgb(light.temperature_k))
        model.light_specular[light_id] = model.light_diffuse[light_id]
        model.light_ambient[light_id] = 0
        model.light_castshadow[light_id] = light.shadows

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        found = mujoco.mj_name2id(self._model, kind, name)
        if found < 0:
            raise ValueError(f"model: expected {kind.name} named {name!r}, as the appearance has; there is none")
        return int(found)

    def _camera_id(self, camera_name: str) -> int:
        camera_id = int(mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera_name))
        if camera_id < 0:
            known = [self._model.camera(index).name for index in range(self._model.ncam)]
            raise InputError(f"camera {camera_name!r}: unknown{nearest(camera_name, known)}")
        return camera_id

    def _update_scene(self, data: mujoco.MjData, camera_name: str) -> int:
        camera_id = self._camera_id(camera_name)
        self._camera.fixedcamid = camera_id
        mujoco.mj_camlight(self._model, data)  # the scene takes the lights' directions from the data, not the model
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        for index, distractor in enumerate(self._distractors):
            self._add_distractor(self._model.ngeom + index, distractor)
        self._gl.make_current()
        return camera_id

    def _add_distractor(self, object_id: int, distractor: Distractor) -> None:
        """Append a geom to the scene, with the object id that follows the model's geoms."""
        geom = self._scene.geoms[self._scene.ngeom]
        half_m = np.array(distractor.size_m) / 2
        cosine, sine = np.cos(distractor.yaw_rad), np.sin(distractor.yaw_rad)
        mujoco.mjv_initGeom(
            geom,
            DISTRACTOR_GEOMS[distractor.shape],
            half_m,
            np.array([*distractor.position_m, half_m[2]]),
            np.array([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1]),
            np.array([*COLORS[distractor.color], 1], dtype=np.float32),
        )
        geom.category = mujoco.mjtCatBit.mjCAT_STATIC  # decorations cast no shadow
        geom.specular, geom.shininess = 0.3, 0.3
        geom.objtype, geom.objid, geom.segid = mujoco.mjtObj.mjOBJ_GEOM, object_id, self._scene.ngeom
        self._scene.ngeom += 1

    def _draw_color(self) -> UInt8[np.ndarray, "h w 3"]:
        pixels = np.empty((self._viewport.height, self._viewport.width, 3), dtype=np.uint8)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest

    def _draw_geometry(
        self, geom_instance: UInt16[np.ndarray, " geoms"]
    ) -> tuple[Float32[np.ndarray, "h w"], UInt16[np.ndarray, "h w"]]:
        """Return depth (metres) and instance ids of one pass without shading, so that both tell of the same surface."""
        flags = self._scene.flags
        color_flags = flags.copy()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        codes = np.empty((self._viewport.height, self._viewport.width, 3), dtype=np.uint8)
        zbuffer = np.empty(codes.shape[:2], dtype=np.float32)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(codes, zbuffer, self._viewport, self._context)
        flags[:] = color_flags
        return self._depth_m(zbuffer[::-1]), self._instances(codes[::-1], geom_instance)

    def _depth_m(self, zbuffer: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        """Undo the projection of reversed depth: 1 at the near plane, 0 at the far plane and where nothing was hit.

        d = near far / (near + z (far - near)), from glFrustum's matrix with the depth range [0, 1] turned round.
        """
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        z = zbuffer.astype(np.float64)
        return np.where(z > 0, near * far / (near + z * (far - near)), np.inf).astype(np.float32)

    def _instances(
        self, codes: UInt8[np.ndarray, "h w 3"], geom_instance: UInt16[np.ndarray, " geoms"]
    ) -> UInt16[np.ndarray, "h w"]:
        """Turn colours, which code a scene geom's segment id + 1 from the lowest byte, into instance ids."""
        segment = codes.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], dtype=np.uint32)
        instance_of_segment = np.zeros(self._scene.ngeom + 1, dtype=np.uint16)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                instance_of_segment[geom.segid + 1] = geom_instance[geom.objid]
        return instance_of_segment[segment]

    def _intrinsics_px(self, camera_id: int) -> Float64[np.ndarray, "3 3"]:
        height, width = self._viewport.height, self._viewport.width
        focal_px = height / 2 / np.tan(np.deg2rad(self._model.cam_fovy[camera_id]) / 2)
        return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])


def _open_context(model: mujoco.MjModel, height: int, width: int) -> tuple[Any, mujoco.MjrContext]:
    """Open an off-screen OpenGL context and upload the model to it."""
    gl = None
    try:
        gl = _gl_context_class()(width, height)
        gl.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    # What a missing library or device raises: ImportError and AttributeError from PyOpenGL, RuntimeError from the
    # context, FatalError from MuJoCo.
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
        if gl is not None:
            gl.free()
        reason = " ".join(str(error).split())
        raise InputError(
            f"rendering: no off-screen OpenGL ({reason}); on Debian or Ubuntu install libegl1 and libgl1-mesa-dri, "
            "and set MUJOCO_GL=egl or leave it unset"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
    return gl, context


def _gl_context_class() -> Any:
    """Return MuJoCo's context class: as MUJOCO_GL says; if it says nothing, EGL on Linux, which needs no display."""
    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
        from mujoco.egl import GLContext  # imported here: it fails where EGL is missing, and only rendering needs it

        return GLContext
    return mujoco.GLContext
